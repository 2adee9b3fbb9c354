"""How many files a node may open: enough for clients and peers, who must not take those that votes need."""

from __future__ import annotations

import resource

from chain.log import Log

FILES_APART = 160 + 320  # peers, and twice as many to spare: the database, logs, blobs on their way to peers
FILES_PER_CLIENT = 6  # a socket and a blob, and twice as much to spare

log = Log("system")


def raise_file_limit(clients_max: int) -> None:
    """Let this process open as many files as its clients can make it: short of them, it could not write its votes."""
    needed = FILES_APART + FILES_PER_CLIENT * clients_max
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < needed:
        log.warning(
            f"this system lets the node open {wanted} files, and {clients_max} clients at once may need {needed}: "
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= of its service), or give a lower --rpc-max-connections",
            files=wanted,
            needed=needed,
        )
