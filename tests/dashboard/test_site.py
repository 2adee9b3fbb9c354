"""What a node serves to browsers: files of its own under known names, and never at the cost of its RPC."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from chain.dashboard.site import Site
from chain.rpc.access import EVERY_INTERFACE, Access, Origins
from chain.rpc.origin_gate import is_own_page
from tests.rpc.kit import served

STATIC = Path(__file__).resolve().parent.parent.parent / "chain" / "dashboard" / "static"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NAME = {"jsonrpc": "2.0", "id": 1, "method": "system_name"}


async def test_a_browser_gets_the_page_and_whoever_is_none_a_line_of_text(tmp_path: Path) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        page, text = await http.get(it.http, headers=BROWSER), await http.get(it.http)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert page.content == (STATIC / "index.html").read_bytes()
        assert (text.status_code, text.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert "accept" in page.headers["vary"]
        assert "accept" in text.headers["vary"]
        answer = await http.post(it.http, json=NAME, headers=BROWSER)
        assert answer.json()["result"] == "potchain"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_no_name_on_a_page_turns_round_what_follows_it(tmp_path: Path) -> None:
    """By the pages' own code, on a document that has no more than what an element needs to take text."""
    for name in ("dom.js", "format.js"):
        shutil.copy(STATIC / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "main.js").write_text("""
        globalThis.Node = class {};
        globalThis.document = { createElement: () => ({ text: '', append(text) { this.text += text; } }) };
        const { h } = await import('./dom.js');
        const name = 'a\\u202eb\\u2066c\\u200fd\\u0000e\\u001b[1mf \\u05d0 \\u{1f468}\\u200d\\u{1f33e} 5\\ng';
        process.stdout.write(h('p', null, [name], 7).text);
    """)
    done = subprocess.run(["node", "main.js"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == "a?b?c?d?e?[1mf \u05d0 \U0001f468\u200d\U0001f33e 5\ng7"


async def test_every_file_has_its_type_and_is_sent_once(tmp_path: Path) -> None:
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
    names = sorted(file.name for file in STATIC.iterdir())
    assert Site().names == names
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        for name in names:
            first = await http.get(f"{it.http}/dashboard/{name}")
            assert first.content == (STATIC / name).read_bytes()
            assert first.headers["content-type"].partition(";")[0] == types[Path(name).suffix]
            again = await http.get(f"{it.http}/dashboard/{name}", headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await http.head(f"{it.http}/dashboard/{name}")
            assert (head.content, head.headers["etag"]) == (b"", first.headers["etag"])


async def test_pages_may_load_and_be_loaded_by_nothing_but_this_node(tmp_path: Path) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        for path in ("/", "/dashboard/app.js"):
            headers = (await http.get(it.http + path, headers=BROWSER)).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert {policy[each] for each in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path", ["../site.py", "..%2fsite.py", "%2e%2e/site.py", "nowhere.js", "", "app.js/x", "a" * 9000]
)
async def test_no_other_path_leads_to_a_file(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        answer = await http.get(f"{it.http}/dashboard/{path}", headers=BROWSER)
        assert (answer.status_code, b"Serves the dashboard" in answer.content) == (404, False)
        assert (await http.post(f"{it.http}/dashboard/app.js", json=NAME)).status_code == 405


def test_files_name_no_other_host_and_write_no_markup_or_code_from_text() -> None:
    for file in STATIC.iterdir():
        text = file.read_text()
        hosts = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", text)) - {"www.w3.org"}
        assert not hosts, file.name
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|javascript:", text
        )
        assert not found, file.name
    page = (STATIC / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", page)


OWN = "http://192.0.2.1:9944"


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        (OWN, "192.0.2.1:9944", True),
        ("http://[2001:db8::1]:9944", "[2001:db8::1]:9944", True),
        ("https://192.0.2.1", "192.0.2.1", True),
        (OWN, "192.0.2.1:9945", False),
        (OWN, "192.0.2.2:9944", False),
        (OWN, "", False),
        # A name may be anybody's who points it at this machine.
        ("http://node.example:9944", "node.example:9944", False),
        ("http://localhost.evil.example:9944", "localhost.evil.example:9944", False),
        ("http://192.0.2.1.evil.example", "192.0.2.1.evil.example", False),
        ("http://user@192.0.2.1:9944", "192.0.2.1:9944", False),
        ("file://192.0.2.1", "192.0.2.1", False),
        ("null", "null", False),
        ("http://[::1", "[::1", False),
    ],
)
def test_a_page_is_this_nodes_own_where_it_was_opened_by_address(origin: str, host: str, *, is_own: bool) -> None:
    assert is_own_page(origin, host) is is_own


async def test_the_gate_answers_its_own_page_and_no_rebound_name(tmp_path: Path) -> None:
    access = Access(EVERY_INTERFACE, origins=Origins(()))
    async with served(tmp_path, access=access) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        url = f"http://127.0.0.1:{it.server.port}"
        own = await http.post(url, json=NAME, headers={"origin": url})
        name = f"rebound.example:{it.server.port}"
        rebound = await http.post(url, json=NAME, headers={"origin": f"http://{name}", "host": name})
        other = await http.post(url, json=NAME, headers={"origin": "http://192.0.2.1:9944"})
        assert (own.status_code, rebound.status_code, other.status_code) == (200, 403, 403)
        # The pages are there for all, so that they can say what is wrong; browsers name the origin of a module, too.
        for path in ("/", "/dashboard/app.js"):
            page = await http.get(url + path, headers={**BROWSER, "origin": f"http://{name}", "host": name})
            assert (page.status_code, "access-control-allow-origin" in page.headers) == (200, False)
        for path in ("/health", "/dashboard", "/dashboardx", "/blobs/0x" + "00" * 32):
            assert (await http.get(url + path, headers={"origin": f"http://{name}"})).status_code == 403
