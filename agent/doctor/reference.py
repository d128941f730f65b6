"""Write ``docs/doctor.md`` from the findings: ``python -m agent.doctor.reference FILE``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.areas import AREAS, BROKE, TIMED_OUT
from agent.doctor.finding import Kind, Severity

_HEAD: Final = """\
# Doctor

Written from the table of findings by `make schema`; edit them in `agent/doctor/`.

```console
$ sudo milepost-agent doctor
$ milepost-agent doctor --config agent.toml --only gps,can
$ milepost-agent doctor --json
```

It looks at the board, tells what is wrong and the command that mends it, or that shows what needs
a person's eye. It changes nothing and does not disturb the running agent
([decision 0039](decisions/0039-doctor-and-watch.md)). It works whether the agent runs or not, with
a config that is broken as far as it can be read, and without a network; nothing takes longer than
`--timeout`. As root, or as the agent's user, it sees more.

| exit code | the worst finding is |
|---|---|
| 0 | `ok` or `info`: nothing to mend |
| 1 | `warning`: the agent works, but less well than it could, or not for long |
| 2 | `error`: samples are missing, wrong or not delivered until it is mended; or wrong usage |

`--json` prints `{"vehicle_id", "config_file", "agent_runs", "severity", "findings": [{"area",
"code", "severity", "text", "command", "advice"}, …]}`. Codes are stable; texts are not.
"""


def text() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    parts += [_section(f"{name}: {area.about}", area.kinds) for name, area in AREAS.items()]
    parts.append(_section("any area", [TIMED_OUT, BROKE]))
    return "\n".join(parts)


def _section(title: str, kinds: list[Kind]) -> str:
    return f"## {title}\n\n" + "\n".join(line for kind in kinds for line in _entry(kind))


def _entry(kind: Kind) -> Iterator[str]:
    advice = _plain(kind.advice.replace("{hint}", "").strip())
    sentence = f"{_plain(kind.text)}. {advice}".rstrip()
    yield f"**`{kind.code}`** ({kind.severity.word}): {sentence}\n"
    if kind.command:
        yield f"```sh\n{_plain(kind.command, capitals=True)}\n```\n"
    elif kind.severity >= Severity.WARNING:
        raise ValueError(f"{kind.code} has no remedy")


def _plain(template: str, *, capitals: bool = False) -> str:
    """Placeholders as ``NAME`` in a command, as *name* in a sentence."""

    def name(match: re.Match[str]) -> str:
        word = match.group(1)
        return word.upper() if capitals else f"*{word}*"

    return re.sub(r"\{(\w+)[^}]*\}", name, template)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
