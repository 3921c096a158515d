"""A path has many spellings: the gate decides by the one that MLflow sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from mlflow_proxy_e2e.checks.attempts import ask, is_alike, leads_elsewhere
from mlflow_proxy_e2e.checks.gate import READ, SEARCH, WRITE, Gate
from mlflow_proxy_e2e.checks.oracle import assert_none_wrong
from mlflow_proxy_e2e.target import Identity, Route, Target
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

# {base} is the route's path, {inner} MLflow's own: {root}/{rest}, or {head}/{last}. None of these but {base} begins with a slash.
ENDS_EXEMPT = "ends-exempt"
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "slashes": (
        *("{base}//{inner}", "{base}///{inner}", "/{base}/{inner}", "//{base}//{inner}"),
        *("{base}/{root}//{rest}", "{base}/{head}//{last}", "{base}/{inner}/", "{base}/{inner}//"),
    ),
    "dots": (
        *("{base}/./{inner}", "/.{base}/{inner}", "{base}/{head}/./{last}", "{base}/{inner}/."),
        *(
            "{base}/x/../{inner}",
            "/x/..{base}/{inner}",
            "{base}/..{base}/{inner}",
            "{base}/{head}/x/../{last}",
            "{base}/{inner}/x/..",
        ),
        *("/..{base}/{inner}", "{base}/.../{inner}", "{base}/x//../{inner}", "{base}/x/.//../{inner}"),
    ),
    "encoded-dots": (
        *(
            "{base}/%2e/{inner}",
            "/%2e{base}/{inner}",
            "{base}/x/%2e%2e/{inner}",
            "{base}/x/.%2E/{inner}",
            "/x/%2E%2e{base}/{inner}",
        ),
        *("{base}/{head}/%2e/{last}", "{base}/{head}/x/%2e%2e/{last}", "{base}/%2e%2e{base}/{inner}", "/%2e%2e{base}/{inner}"),
    ),
    "encoded-slashes": (
        *("{base}%2f{inner}", "{base}/{root}%2f{rest}", "{base}/{head}%2f{last}", "{base}/{head}%2F{last}", "{base}/%2f{inner}"),
        *(
            "/%2f{base}/{inner}",
            "{base}/x%2f..%2f{inner}",
            "{base}/x%2f%2e%2e%2f{inner}",
            "{base}/..%2f{base}/{inner}",
            "{base}/{inner}%2f",
        ),
        *("{base}/{head}/x%2f..%2f{last}", "{base}/%2e%2e%2f{inner}"),
    ),
    "encoded-twice": (
        *("{base}%252f{inner}", "{base}/{root}%252f{rest}", "{base}/{head}%252f{last}", "{base}/x/%252e%252e/{inner}"),
        *("{base}/x%252f..%252f{inner}", "{base}/{head}/%25{code}{tail}", "{base}/%25252e%25252e/{inner}"),
    ),
    "backslashes": (
        *("{base}\\{inner}", "{base}/{head}\\{last}", "{base}/x/..\\{inner}", "{base}%5c{inner}", "{base}/{head}%5c{last}"),
        *("{base}/x\\..\\{inner}", "{base}/x%5c..%5c{inner}", "\\{base}/{inner}", "/%5c{base}/{inner}"),
    ),
    "parameters": (
        *("{base};x/{inner}", "{base}/;x/{inner}", "{base}/;/{inner}", "{base}/x/..;/{inner}", "{base}/..;{base}/{inner}"),
        *("{base}/{root};x=y/{rest}", "{base}/{head};x/{last}", "{base}/{inner};x", "{base}/{inner};", "/;x{base}/{inner}"),
        *("{base}/{inner}%3bx", "{base}/{inner}%3fx", "{base}/{inner}&x"),
    ),
    "letters": (
        *("{upper_base}/{inner}", "{base}/{upper_inner}", "{base}/{head}/{upper_last}", "{base}/{head}/%{code}{tail}"),
        *("{encoded_base}/{inner}", "{base}/%61{root_tail}/{rest}", "{base}/{inner}%20", "{base}/{inner}%09", "{base}/{inner}%00"),
        *(
            "{base}/{inner}%0a",
            "{base}/{inner}%0d%0aX-Api-Key:%20x",
            "{base}/{inner}.",
            "{base}/{inner}.json",
            "{base}/{head}%c0%af{last}",
        ),
        *(
            "{base}/x/%c0%ae%c0%ae/{inner}",
            "{base}/{head}%ef%bc%8f{last}",
            "{base}/{head}%u002f{last}",
            "{base}/{inner}%",
            "{base}/{inner}%ff",
        ),
    ),
    "prefixes": (
        *(
            "/{inner}",
            "{base}{base}/{inner}",
            "{base}/{base}/{inner}",
            "{base}%2f..{base}/{inner}",
            "/x{base}/{inner}",
            "{base}x/{inner}",
        ),
        *(
            "{base}%20/{inner}",
            "{base}./{inner}",
            "{base}%2f%2f{inner}",
            "{base}/%2e%2e/{inner}",
            "{base}/../{inner}",
            "{base}..//{inner}",
        ),
        *("{base}../{inner}", "{base}%2e%2e/{inner}", "//{inner}", "/%2f{inner}"),
    ),
    "looks-exempt": tuple(
        spelling.format(exempt=exempt, base="{base}", inner="{inner}")
        for exempt in ("/health", "{base}/health", "{base}/static-files")
        for spelling in (
            *(
                "{exempt}/..{base}/{inner}",
                "{exempt}/../..{base}/{inner}",
                "{exempt}/%2e%2e{base}/{inner}",
                "{exempt}/..%2f{base}/{inner}",
            ),
            *(
                "{exempt}%2f..{base}/{inner}",
                "{exempt};/..{base}/{inner}",
                "{exempt}/..;{base}/{inner}",
                "{exempt}//..{base}/{inner}",
            ),
            *(
                "{exempt}{base}/{inner}",
                "{exempt}/{inner}",
                "{exempt}/../{inner}",
                "{exempt}/%2e%2e/{inner}",
                "{exempt}%00{base}/{inner}",
            ),
        )
    ),
    # A proxy that decides by the normalized path and forwards the original one takes this for a path that needs no key.
    ENDS_EXEMPT: (
        *(f"{{base}}/{{inner}}{up}/health" for up in ("/.." * 8, "/%2e%2e" * 8, "/..;" * 8, ";/.." * 8, "%2f.." * 8, "\\.." * 8)),
        *("{base}/{inner}/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fhealth", "{base}/{inner}%3f/health", "{base}/{inner}%00/health"),
        *(
            "{base}/{inner}/health",
            "{base}/{inner};/health",
            "{base}/{inner}%2fhealth",
            "{base}/{inner}?x=/health",
            "{base}/{inner}?/health",
        ),
        *(
            "{base}/{inner}.css",
            "{base}/{inner};.js",
            "{base}/{inner}/.png",
            "{base}/{inner}%00.ico",
            "{base}/{inner}?x=.css",
            "{base}/{inner}?.js",
        ),
        *("{base}/{inner}?x=/static-files/", "{base}/{inner}?/../../health", "{base}/{inner}?x=%2fhealth"),
    ),
}
# As it is or normalized, this is the write, or nothing in MLflow. Only a proxy that truncates it sees the read.
LIKE_READS = (
    *("{base}/{read}/../{last}", "{base}/{read}/%2e%2e/{last}", "{base}/{read}/.%2e/{last}", "{base}/{read}/..%2f{last}"),
    *("{base}/{read}%2f..%2f{last}", "{base}/{read}%2f../{last}", "{base}/{read}%2F%2E%2E%2F{last}", "{base}/{read}/..;/{last}"),
    *(
        "{base}/{read};/../{last}",
        "{base}/{read};x=/../{last}",
        "{base}/{read}/%252e%252e/{last}",
        "{base}/{read}%252f..%252f{last}",
    ),
    *("{base}/{read}\\..\\{last}", "{base}/{read}%5c..%5c{last}", "{base}/{read}/./../{last}", "{base}/{read}/x/../../{last}"),
    *("{base}/{read}/../../../../../{inner}", "{base}/{read}/../../../../..{base}/{inner}", "{base}/{read}/..//{last}"),
    *("{base}/graphql/../{inner}", "{base}/graphql/%2e%2e/{inner}", "{base}/graphql/..%2f{inner}", "{base}/graphql;/../{inner}"),
)
WRITE_SPELLINGS = {**SPELLINGS, "looks-like-a-read": LIKE_READS}


def spelled(spellings: Iterable[str], base: str, path: str) -> list[str]:
    """Return the spellings of one of MLflow's paths below a base path."""
    head, _, last = path[1:].rpartition("/")
    root, _, rest = path[1:].partition("/")
    names = {
        "base": base,
        "inner": path[1:],
        "head": head,
        "last": last,
        "root": root,
        "rest": rest,
        "read": SEARCH[1:],
        "code": f"{ord(last[0]):02x}",
        "tail": last[1:],
        "root_tail": root[1:],
        "upper_base": base.upper(),
        "upper_inner": path[1:].upper(),
        "upper_last": last.upper(),
        "encoded_base": f"/%{ord(base[1]):02x}{base[2:]}" if base else "",
    }
    return [spelling.format(**names) for spelling in spellings]


def public_answers(gate: Gate, kind: str, request: Request) -> list[Answer]:
    """Return the answers to such a request without a key: on a meaningless path and, for one kind, on /health."""
    paths = (f"/{gate.marks.new()}", *(("/health",) if kind == ENDS_EXEMPT else ()))
    return [answer for path in paths for answer in gate.public_answers(replace(request, path=path))]


@pytest.mark.parametrize("kind", SPELLINGS)
def test_odd_path_without_key(kind: str, gate: Gate) -> None:
    """However the path is spelled, nothing is read without a key."""
    harmless = public_answers(gate, kind, gate.subject.read())

    for odd in spelled(SPELLINGS[kind], gate.base, READ):
        mark = gate.marks.new()
        gate.attempt(gate.wire(), gate.subject.read(odd).marked(mark), mark, harmless=harmless)

    gate.assert_shut()


@pytest.mark.capability("scopes")
@pytest.mark.parametrize("kind", WRITE_SPELLINGS)
def test_odd_path_of_denied_write(kind: str, gate: Gate, reader: Identity) -> None:
    """However the path of a write is spelled, even like that of a read, a read-only key cannot write."""
    gate.assert_open_to_writes()
    harmless = public_answers(gate, kind, gate.subject.write(""))

    for odd in spelled(WRITE_SPELLINGS[kind], gate.base, WRITE):
        mark = gate.marks.new()
        gate.attempt(gate.wire(reader), gate.subject.write(mark, odd).marked(mark), mark, harmless=harmless)

    gate.assert_shut()


@pytest.mark.parametrize("kind", SPELLINGS)
def test_odd_path_of_permitted_read(kind: str, gate: Gate, target: Target) -> None:
    """However the path is spelled, a permitted read is refused, or gets MLflow's answer for that path or its normalized form."""
    wanted = gate.assert_open().body
    harmless = public_answers(gate, kind, gate.subject.read())

    def try_spelling(odd: str) -> str | None:
        wire, request = gate.wire(gate.control), gate.subject.read(odd)
        came = ask(wire, request)
        if not isinstance(came, Answer) or came.status >= 400 or any(is_alike(gate.route, came, known) for known in harmless):
            return None
        answers = {wanted, *answers_of_mlflow(target.direct, gate.base, request)}
        if leads_elsewhere(gate.route, came) or (came.status < 300 and came.body not in answers):
            return describe(wire, request, came, "a refusal, or what MLflow answers to that path or to its normalized form")
        return None

    assert_none_wrong([try_spelling(odd) for odd in spelled(SPELLINGS[kind], gate.base, READ)])


def answers_of_mlflow(direct: Route | None, base: str, request: Request) -> Iterable[bytes]:
    """Return MLflow's own answer to the path below the base path, unchanged, if MLflow can be reached."""
    if direct and request.path.startswith(f"{base}/"):
        came = ask(Wire(direct, timeout=ATTEMPT), replace(request, path=request.path.removeprefix(base)))
        if isinstance(came, Answer):
            yield came.body
