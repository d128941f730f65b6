"""``cloud/template.yaml`` as CloudFormation's YAML: short forms, references, parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cloud.errors import ConfigError

TEMPLATE_PATH: Final = Path(__file__).with_name("template.yaml")
HINT: Final = "Compare it with the template that came with this version."
_PLACEHOLDER: Final = re.compile(r"\$\{(!?)([^}]*)\}")

Node = Any
"""A parsed YAML value. Short forms (``!Ref``, ``!Sub``, ``!GetAtt``) are :class:`Intrinsic`."""


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """A CloudFormation function in its short form: ``Ref``, ``Sub``, ``GetAtt``."""

    name: str
    argument: Node


class _Loader(yaml.SafeLoader):
    """Safe, and knows CloudFormation's short forms."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Intrinsic:
    if isinstance(node, yaml.ScalarNode):
        return Intrinsic(suffix, loader.construct_scalar(node))
    if isinstance(node, yaml.SequenceNode):
        return Intrinsic(suffix, loader.construct_sequence(node, deep=True))
    return Intrinsic(suffix, loader.construct_mapping(node, deep=True))  # type: ignore[arg-type]  # the third kind


_Loader.add_multi_constructor("!", _intrinsic)


def load_template(path: Path = TEMPLATE_PATH) -> dict[str, Node]:
    """The whole template.

    Raises:
        ConfigError: it cannot be read or is no template.
    """
    try:
        document = yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506  a SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint=HINT) from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise ConfigError(f"{path} has no Resources", hint=HINT)
    return document


def resource_of(node: Node) -> str:
    """The resource that ``!Ref X`` or ``!GetAtt X.Arn`` points to."""
    match node:
        case Intrinsic("Ref", str(name)):
            return name
        case Intrinsic("GetAtt", str(name)):
            return name.split(".")[0]
    raise ValueError(f"{node!r} is no reference to a resource of this template")


def text_of(node: Node, parameters: Mapping[str, str]) -> str:
    """Plain text, or ``!Sub`` and ``!Ref`` of parameters with their default values."""
    match node:
        case str():
            return node
        case Intrinsic("Ref", str(name)) if name in parameters:
            return parameters[name]
        case Intrinsic("Sub", str(text)):
            return _PLACEHOLDER.sub(lambda found: _substituted(found, parameters), text)
    raise ValueError(f"{node!r} is neither text nor a parameter of this template")


def _substituted(found: re.Match[str], parameters: Mapping[str, str]) -> str:
    literal, name = found.groups()
    if literal:
        return f"${{{name}}}"
    if name not in parameters:
        raise ValueError(f"${{{name}}} is no parameter of this template")
    return parameters[name]
