# SPDX-License-Identifier: Apache-2.0
"""
Types for pydantic models that keep protected values out of what is sent and printed.

::

    class CustomerShown(ProtectedModel):
        id: UUID
        name: Protected[str]
        cpf: Annotated[Protected[str] | None, MaskedAs("cpf")]

    CustomerShown.model_validate(customer)              # looks: decided and recorded
    @app.get("/mine", response_model=expose(CustomerShown, "cpf"))

In JSON a `Protected` is a mask, whoever looked; an `Exposed` is the value, or the mask where the
reader was given one. Neither prints its value, pickles, or quotes it in a validation error. In a
request body a `Protected` takes a value, and `reveal()` hands it out.

Decides nothing: looking at the attributes of an object of lacre does, and whoever may not look at
one gets `AccessDenied`. Hides nothing from code that calls `reveal()`.
"""

import types
from collections.abc import Callable, Mapping
from copy import copy
from functools import lru_cache
from typing import Annotated, Any, Generic, Never, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema, to_jsonable_python

from lacre.errors import AccessDenied, ConfigurationError, MisuseError
from lacre.fields.masks import mask
from lacre.sensitive import Mask

__all__ = ["Exposed", "MaskedAs", "Protected", "ProtectedModel", "expose"]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Protected(Generic[T]):
    """
    A value that is not shown, or the mask that its reader got instead.

    ``str()`` and JSON are the mask: the reader's own, else the field's (`MaskedAs`), else ``***``.
    """

    __slots__ = ("__held", "__mask")

    def __init__(self, value: "T | Mask | Protected[T]") -> None:
        self.__held: T | Mask = value.__held if isinstance(value, Protected) else value  # noqa: SLF001 - the same class
        self.__mask: Callable[[object], Mask] = mask("hidden")
        if isinstance(value, Protected):
            self.__mask = value.__mask  # noqa: SLF001 - the same class

    def reveal(self) -> T:
        """
        Return the value.

        Raises:
            AccessDenied: only its mask is held.
        """
        if isinstance(self.__held, Mask):
            raise AccessDenied(
                "the value was masked for whoever looked at it",
                hint="look at it as somebody who may decrypt",
            )
        return self.__held

    @property
    def masked(self) -> bool:
        """Whether only a mask is held."""
        return isinstance(self.__held, Mask)

    def masked_as(self, name: str) -> Self:
        """Return the same, shown as the mask of that name."""
        made = copy(self)
        made.__mask = mask(name)  # noqa: SLF001 - the same class
        return made

    def __str__(self) -> str:
        return str(self.__held if isinstance(self.__held, Mask) else self.__mask(self.__held))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __eq__(self, other: object) -> bool:
        return self.__held == other.__held if isinstance(other, Protected) else NotImplemented

    def __hash__(self) -> int:
        return hash((Protected, self.__held))

    def __copy__(self) -> Self:
        return type(self)(self)

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Never:
        raise MisuseError("a protected value does not pickle: reveal it where it is needed")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        (inner,) = get_args(source) or (str,)

        def opened(value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
            held = value.reveal() if isinstance(value, Protected) and not value.masked else value
            if isinstance(held, Protected):
                return cls(held)
            try:
                made = cls(validate(held))
            except ValidationError as error:
                # Its texts quote the value; its type is a word of pydantic's.
                raise PydanticCustomError(
                    "protected_value", "not a value of this field: {wrong}",
                    {"wrong": error.errors(include_input=False, include_context=False)[0]["type"]},
                ) from None  # fmt: skip
            return made._as(value)

        validated = core_schema.no_info_wrap_validator_function(
            opened, handler.generate_schema(inner)
        )
        # Wrapped before it is looked at: an error then holds the wrapper for its input.
        return core_schema.chain_schema(
            [core_schema.no_info_plain_validator_function(Protected), validated],
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._dump, info_arg=True
            ),
            metadata={"lacre_inner": handler.generate_schema(inner)},
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        if handler.mode == "serialization":
            return cls._schema_shown(schema, handler)
        return handler(schema["metadata"]["lacre_inner"])

    @classmethod
    def _schema_shown(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "description": "A mask, never the value."}

    def _as(self, other: "Protected[Any]") -> Self:
        # As `other` is masked.
        self.__mask = other.__mask  # noqa: SLF001 - the same class
        return self

    @classmethod
    def _dump(cls, value: "Protected[Any]", info: core_schema.SerializationInfo[Any]) -> Any:
        # In Python it stays what it is, so that a dump can be validated again. In JSON the field
        # decides as well: pydantic takes an object of a subclass, one that exposes among them, as
        # it is.
        if not info.mode_is_json():
            return value
        if not isinstance(value, Protected):
            raise TypeError("a value that went around validation is not shown")
        return value._shown() if issubclass(cls, Exposed) else str(value)  # noqa: SLF001 - the same class

    def _shown(self) -> Any:
        return str(self)


class Exposed(Protected[T]):
    """A `Protected` whose JSON is the value, where the reader was given it, and else the mask."""

    __slots__ = ()

    def _shown(self) -> Any:
        return str(self) if self.masked else to_jsonable_python(self.reveal())

    @classmethod
    def _schema_shown(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        value = handler(schema["metadata"]["lacre_inner"])
        if value.get("type") == "string" and "format" not in value:
            return {"type": "string"}
        return {"anyOf": [value, {"type": "string", "description": "A mask."}]}


class MaskedAs:
    """
    What a field shows of its value where that is not exposed: ``Annotated[Protected[str], MaskedAs("cpf")]``.

    Raises:
        ConfigurationError: no mask is called *name*.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        mask(name)
        self._name = name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def masked(value: Any) -> Any:
            return value.masked_as(self._name) if isinstance(value, Protected) else value

        return core_schema.no_info_after_validator_function(masked, handler(source))


def _silent(value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        title = error.title
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
    # Outside the handler: the error before would be this one's context.
    del value
    lines: list[InitErrorDetails] = [
        {"type": PydanticCustomError(_literal(each["type"]), _literal(each["msg"])), "loc": each["loc"], "input": None}
        for each in wrong
    ]  # fmt: skip
    raise ValidationError.from_exception_data(title, lines, hide_input=True)


def _literal(text: str) -> Any:
    return text  # where pydantic's stubs take a LiteralString


class ProtectedModel(BaseModel):
    """
    A model with protected fields: made of objects or JSON, silent about what it was given.

    Of an object it looks at the attributes that are its fields, and at no others. Errors of those
    looks are raised as they are.
    """

    model_config = ConfigDict(
        hide_input_in_errors=True, from_attributes=True, validate_assignment=True
    )

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        # Around all of it, validators of subclasses too: what `errors()` holds of a field that is
        # missing, or of a whole model that is refused, is everything that was given.
        return core_schema.no_info_wrap_validator_function(_silent, handler(source))

    @model_validator(mode="before")
    @classmethod
    def _look(cls, value: Any) -> Any:
        # Pydantic would make a validation error of whatever a look raises, and a 500 of a 403.
        if value is None or isinstance(value, Mapping | str | bytes | int | float | list | cls):
            return value
        found = {}
        for name, field in cls.model_fields.items():
            try:
                alias = field.validation_alias if isinstance(field.validation_alias, str) else None
                found[alias or field.alias or name] = getattr(value, name)
            except AttributeError:
                continue
        return found


def expose(model: type[M], *names: str) -> type[M]:
    """
    Return *model* with the fields *names* exposed, for the route that means it.

    Raises:
        ConfigurationError: one of them is no protected field of the model.
    """
    made: type[M] = _exposing(model, names)
    return made


# One class for one question: each is a schema of its own in an OpenAPI document.
@lru_cache(maxsize=1024)
def _exposing(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    fields: dict[str, Any] = {}
    for name in names:
        field = model.model_fields.get(name)
        exposed = None if field is None else _exposed(field.annotation)
        if field is None or exposed == field.annotation:
            raise ConfigurationError(
                f"{model.__name__} has no protected field {name!r}",
                hint="name fields that are annotated as Protected",
            )
        changed = copy(field)
        changed.annotation = exposed
        fields[name] = (exposed, changed)
    if not fields:
        raise ConfigurationError("no field is named", hint=f'expose({model.__name__}, "...")')
    title = f"{model.__name__}Exposing{''.join(name.title().replace('_', '') for name in names)}"
    return create_model(title, __base__=model, __module__=model.__module__, **fields)


def _exposed(annotation: Any) -> Any:
    """Return *annotation* with every `Protected` in it exposed."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Protected or origin is Protected:
        exposing: Any = Exposed
        return exposing[arguments or (str,)]
    if origin in (Union, types.UnionType):
        return Union[tuple(_exposed(each) for each in arguments)]  # noqa: UP007 - of a tuple
    if origin is Annotated:
        annotated: Any = Annotated
        return annotated[(_exposed(arguments[0]), *arguments[1:])]
    opened = tuple(_exposed(each) for each in arguments)
    return annotation if opened == arguments else origin[opened]
