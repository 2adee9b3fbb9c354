"""`potchain`, and `python -m chain`: Ctrl-C ends it without a traceback from its first moment to its last.

Rule: nothing is imported here that takes time.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; before and after it, an interrupt ends this process as it ends one without a handler."""
    is_answered = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # Else whoever started it has it ignored.
    if is_answered:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from chain import cli  # here, since it takes half a second

    if is_answered:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main()
    finally:
        if is_answered:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
