"""Talking to one registry: logins, tokens, redirects, patience. Every answer is one that was asked for, or an error.

A login goes to the registry and to the token server that it names, never to where a redirect leads. Nothing but https
is spoken, except with a registry on this host's loopback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from vmctl import interrupt
from vmctl.boxes import web_failure
from vmctl.boxes.address import without_login
from vmctl.boxes.oci import challenge, credentials
from vmctl.boxes.oci.challenge import Denied
from vmctl.boxes.oci.reference import LOGIN, Reference, is_safe
from vmctl.boxes.oci.responses import TransferBroken, reason_given
from vmctl.boxes.polling import abandonable
from vmctl.boxes.retries import AGAIN_HINT, TRIES, Retries
from vmctl.boxes.web import AGAIN, Access, retry_after
from vmctl.errors import VmctlError, shell_command
from vmctl.events import Report, Warned, ignore

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 5
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404

Body = Callable[[], Any]
"""Makes what to send, for each try anew."""


class RegistryError(VmctlError):
    """A registry could not be asked, or answers what makes no sense."""


class Absent(RegistryError):
    """The registry says that there is no such thing (or none for this user)."""


class Transport:
    """The way to one registry; several threads may use it."""

    def __init__(self, reference: Reference, access: Access, *, report: Report = ignore) -> None:
        self.reference = reference
        self.report = report
        self._access = access
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self.sending = threading.Lock()
        """Held by who sends a piece of a blob."""
        self._lock = threading.Lock()
        self._authorizations: dict[str, str] = {}
        self._base = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    @property
    def base(self) -> str:
        """The URL of the registry; http only where nobody else can listen.

        Raises:
            RegistryError: it does not answer.
        """
        with self._lock:
            if not self._base:
                self._base = self._found()
        return self._base

    def url(self, path: str) -> str:
        """Of something in the repository: "manifests/latest"."""
        return f"{self.base}/v2/{self.reference.repository}/{path}"

    def call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Body | None = None,
        scope: str = "pull", expected: frozenset[int] = frozenset({200}), tries: int = TRIES,
    ) -> requests.Response:  # fmt: skip
        """The answer to one request, asked again while the registry is in trouble; its body is yet to be read.

        Args:
            method: GET and HEAD follow redirects, without the login.
            url: absolute.
            headers: of the request.
            body: makes what is sent.
            scope: "pull", "push", or "push" and another repository to mount from, after a blank.
            expected: which answers are one.
            tries: how often to ask a server in trouble.

        Raises:
            Absent: 404.
            Denied: 401 or 403.
            RegistryError: any other answer, or none.
            Interrupted: the user asked to stop.
        """
        retries = Retries(tries=tries)
        while True:
            try:
                return self.once(method, url, headers=headers or {}, body=body, scope=scope, expected=expected)
            except TransferBroken as error:
                pause = retries.pause(0, error.after)
                if pause is None:
                    raise self.failed(str(error), hint=AGAIN_HINT) from error
                interrupt.sleep(pause)

    def once(
        self, method: str, url: str, *, headers: Mapping[str, str], body: Body | None = None, scope: str = "pull",
        expected: frozenset[int] = frozenset({200}),
    ) -> requests.Response:  # fmt: skip
        """As ``call``, with one try.

        Raises:
            Broken: another try may bring it.
        """
        shown = self._authorizations.get(scope, "")
        response = self._followed(method, url, headers, body, shown)
        if response.status_code == UNAUTHORIZED:
            with response:
                again = self._let_in(response, scope, shown)
                if not again:
                    raise self._error(response, url)
            response = self._followed(method, url, headers, body, self._authorizations[scope])
        if response.status_code in expected:
            return response
        with response:
            raise self._error(response, url)

    def failed(self, reason: str, *, hint: str = "") -> RegistryError:
        """The error that the registry gave, or did not give, what was asked for."""
        hint = hint or f"curl -fLI {self._base or 'https://' + self.reference.host}/v2/"
        return RegistryError(f"{self.reference} cannot be had", details=reason, hint=hint)

    def _found(self) -> str:
        host = self.reference.host
        if not self.reference.is_loopback:
            return f"https://{host}"
        import requests

        try:
            with self._send("GET", f"https://{host}/v2/", {}, None, ""):
                return f"https://{host}"
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self._unreachable(error) from error
        except requests.RequestException as error:
            if "RemoteDisconnected" not in str(error) and "reset" not in str(error):
                raise self._unreachable(error) from error
        return f"http://{host}"

    def _unreachable(self, error: Exception) -> RegistryError:
        brief = f"the registry {self.reference.registry} cannot be asked"
        return RegistryError(brief, details=web_failure.reason(error))

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = _session()
            self._sessions.append(self._local.session)
        return self._local.session  # type: ignore[no-any-return]  # what a thread keeps has no type

    def _trusted(self) -> bool | str:
        if self._access.insecure:
            return False
        return str(self._access.ca) if self._access.ca else True

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, authorization: str
    ) -> requests.Response:
        sent = {"Accept-Encoding": "identity", "User-Agent": "vmctl", **headers}
        if authorization:
            sent["Authorization"] = authorization
        session, trusted = self._session(), self._trusted()  # the session's own would yield to $REQUESTS_CA_BUNDLE
        return abandonable(
            lambda: session.request(
                method, url, headers=sent, data=body() if body else None, stream=True, allow_redirects=False,
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), verify=trusted,
            )
        )  # fmt: skip

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, authorization: str
    ) -> requests.Response:
        import requests

        for _ in range(MOST_REDIRECTS + 1):
            self._check(url)
            shown = authorization if origin(url) == origin(self.base) else ""
            try:
                response = self._send(method, url, headers, body, shown)
            except requests.exceptions.SSLError as error:
                raise self._unreachable(error) from error
            except requests.RequestException as error:
                raise TransferBroken(web_failure.reason(error)) from error
            if response.status_code not in REDIRECTS or method not in ("GET", "HEAD"):
                return response
            with response:
                url = self._led_to(url, response.headers.get("Location", ""))
        raise self.failed(f"more than {MOST_REDIRECTS} redirects, the last to {without_login(url)}")

    def _led_to(self, url: str, location: str) -> str:
        try:
            return urljoin(url, location)
        except ValueError as error:
            text = f"the registry leads to {location[:200]!r}, which is not a URL; only https is followed"
            raise self.failed(text) from error

    def _check(self, url: str) -> None:
        """See that nobody on the way reads or changes what goes there.

        Raises:
            RegistryError: the registry leads to something else than https.
        """
        if not is_safe(url, loopback=self.reference.is_loopback):
            raise self.failed(f"the registry leads to {without_login(url)[:200]!r}; only https is followed")

    def _let_in(self, response: requests.Response, scope: str, shown: str) -> bool:
        """Get what the registry wants to see; whether there is something new to show."""
        asked = challenge.read(response.headers.get("WWW-Authenticate", ""))
        if asked is None or origin(response.url) != origin(self.base):
            return False
        with self._lock:
            if self._authorizations.get(scope, "") != shown:
                return True  # another thread was quicker
            self._authorizations[scope] = self._authorization(asked, scope)
            return bool(self._authorizations[scope]) and self._authorizations[scope] != shown

    def _authorization(self, asked: challenge.Challenge, scope: str) -> str:
        import requests

        login = credentials.find(self.reference.registry, self.reference.repository)
        if asked.scheme == "basic":
            return challenge.basic(login) if login and login.user else ""
        session, trusted = self._session(), self._trusted()
        try:
            return abandonable(lambda: challenge.token(session, asked, login, scope=self._scope(scope), verify=trusted))
        except requests.RequestException as error:
            raise TransferBroken(f"its token server: {web_failure.reason(error)}") from error

    def _scope(self, scope: str) -> str:
        action, _, other = scope.partition(" ")
        wanted = f"repository:{self.reference.repository}:{'pull,push' if action == 'push' else 'pull'}"
        return f"{wanted} repository:{other}:pull" if other else wanted

    def _error(self, response: requests.Response, url: str) -> Exception:
        status = response.status_code
        answer = f"the registry says {status} {response.reason}{reason_given(response)}"
        if status in AGAIN:
            return TransferBroken(answer, after=retry_after(response))
        if status in (UNAUTHORIZED, FORBIDDEN):
            return Denied(
                f"{self.reference} is not for this user", details=answer, hint=LOGIN
            )  # fmt: skip
        if status == NOT_FOUND:
            return Absent(
                f"there is no {self.reference}", details=answer, hint=shell_command("curl", "-fLI", without_login(url))
            )
        return self.failed(answer)

    def warn(self, text: str) -> None:
        """Tell the user."""
        self.report(Warned(text=text))


def origin(url: str) -> tuple[str, str]:
    """Scheme, host and port of a URL, as written: who a login was given to."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _session() -> requests.Session:
    import requests

    class RegistrySession(requests.Session):
        def get_redirect_target(self, _response: requests.Response) -> None:
            """None: each step of a redirect is checked here, before it is taken."""

    session = RegistrySession()
    session.auth = lambda request: request  # else requests would add what ~/.netrc says, to any host
    return session
