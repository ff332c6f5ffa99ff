# SPDX-License-Identifier: Apache-2.0
"""
The JSON Schema of `lacre.toml`, for editors, and what each setting means, for editors and the reference.

`settings.toml` beside this module has a sentence for each setting; the schema takes types from the
model. It says what a file may look like: what must be true of it as a whole is checked at load
(`lacre.policy.consistency`).
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from lacre.policy.loading import OVERLAY
from lacre.policy.model import PolicyFile

__all__ = ["Setting", "reference", "schema", "settings"]

_SPAN = "^(never|[1-9][0-9]{0,6} (second|minute|hour|day|year)s?)$"
_FALSE = {"const": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting, by its path with NAME for what the file names: what it *takes*, and what it *means*."""

    path: str
    takes: str
    means: str

    @property
    def variable(self) -> str:
        """The environment's variable that may say it; empty where none may."""
        return next((name for name, path in OVERLAY.items() if ".".join(path) == self.path), "")


class _Schema(GenerateJsonSchema):
    """As people write a policy: spans in words, and nothing that TOML has not."""

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": _SPAN}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": _SPAN}  # a term

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        # Defaults are in the words of the setting: what a table holds by default would be said twice.
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the reference."""
    text = resources.files("lacre.policy").joinpath("settings.toml").read_text("utf-8")
    return tuple(
        Setting(path=path, takes=said["takes"], means=said["means"])
        for path, said in tomllib.loads(text).items()
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a policy file."""
    made = PolicyFile.model_json_schema(by_alias=True, schema_generator=_Schema)
    classes = made["$defs"]["ClassPolicy"]
    classes["required"] = [name for name in classes.get("required", ()) if name != "fields"]
    classes["properties"]["index"] = {"anyOf": [classes["properties"]["index"], _FALSE]}
    for each in made["$defs"].values():
        each.pop("description", None)  # for whoever reads the code
        each.pop("title", None)
    means = {each.path: f"{each.means} ({each.takes})" for each in settings()}
    for path, described in _properties(made, made, ""):
        described.pop("title", None)
        if path in means:
            described["description"] = means[path]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lacre.toml",
        **{name: value for name, value in made.items() if name not in ("title", "description")},
    }


def reference() -> str:
    """Return the table of settings, in Markdown."""
    rows = [("setting", "type, default", "meaning", "environment")]
    rows += [
        (f"`{each.path}`", each.takes, each.means, each.variable and f"`{each.variable}`")
        for each in settings()
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]]) + "\n"


def _properties(
    whole: Mapping[str, Any], table: Mapping[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, described in table.get("properties", {}).items():
        where = f"{path}{name}"
        yield where, described
        for inner, added in _tables(whole, described):
            yield from _properties(whole, inner, f"{where}.{added}")


def _tables(
    whole: Mapping[str, Any], described: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    if "$ref" in described:
        yield whole["$defs"][described["$ref"].rpartition("/")[2]], ""
    more = described.get("additionalProperties")
    if isinstance(more, dict) and "$ref" in more:
        yield whole["$defs"][more["$ref"].rpartition("/")[2]], "NAME."
