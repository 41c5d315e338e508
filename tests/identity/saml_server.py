"""An identity provider of somebody else's making, pysaml2's, behind two pages: who are you, and the answer posted to the service provider.

`python saml_server.py FOLDER PORT [BASE]` serves `http://localhost:PORT`, and says that it is BASE. FOLDER holds `idp.pem`, `idp.key` and the service provider's `sp.xml`. It asks for no
password, and knows everybody by the name that they type.
"""

from __future__ import annotations

import html
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.authn_context import PASSWORDPROTECTEDTRANSPORT
from saml2.config import IdPConfig
from saml2.saml import NAME_FORMAT_URI, NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256


def provider(folder: Path, base: str) -> Server:
    """As somebody would configure it who follows its documentation."""
    service = {
        "endpoints": {"single_sign_on_service": [(f"{base}/sso", BINDING_HTTP_REDIRECT)]},
        "policy": {"default": {"lifetime": {"minutes": 15}, "attribute_restrictions": None, "name_form": NAME_FORMAT_URI}},
        "sign_assertion": True,
        "sign_response": False,
    }
    settings = {
        "entityid": f"{base}/metadata", "service": {"idp": service}, "key_file": str(folder / "idp.key"),
        "cert_file": str(folder / "idp.pem"), "metadata": {"local": [str(folder / "sp.xml")]}, "xmlsec_binary": "/usr/bin/xmlsec1",
    }  # fmt: skip
    return Server(config=IdPConfig().load(settings))


class Pages(BaseHTTPRequestHandler):
    """`/sso` asks who it is, `/login` answers the service provider."""

    idp: Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "SAMLRequest" not in query:
            self._show(404, "<p>nothing here</p>")
            return
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(query[name][0])}">' for name in ("SAMLRequest", "RelayState")
        )
        self._show(200, f'<h1>Sign in</h1><form method="post" action="/login">{hidden}<input name="who"><button>Sign in</button></form>')

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        asked = self.idp.parse_authn_request(form["SAMLRequest"][0], BINDING_HTTP_REDIRECT)
        back = self.idp.response_args(asked.message, [BINDING_HTTP_POST])
        name = form["who"][0]
        said = {"displayName": [name.title()], "mail": [f"{name}@corp.example"], "eduPersonAffiliation": ["staff", "member"]}
        response = self.idp.create_authn_response(
            said, userid=name, authn={"class_ref": PASSWORDPROTECTEDTRANSPORT, "authn_auth": "-"}, sign_assertion=True,
            sign_response=False, sign_alg=SIG_RSA_SHA256, digest_alg=DIGEST_SHA256, name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=name), **back,
        )  # fmt: skip
        posted = self.idp.apply_binding(BINDING_HTTP_POST, str(response), back["destination"], form["RelayState"][0], response=True)
        self._show(200, posted["data"])

    def _show(self, status: int, page: str) -> None:
        body = page.encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        pass


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    Pages.idp = provider(folder, sys.argv[3] if len(sys.argv) > 3 else f"http://localhost:{port}")
    server = ThreadingHTTPServer(("127.0.0.1", port), Pages)
    print("ready", flush=True)
    server.serve_forever()
