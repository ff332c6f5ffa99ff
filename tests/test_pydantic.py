# SPDX-License-Identifier: Apache-2.0
"""What a model with protected fields shows: masks, unless a route exposes them, and never by accident."""

import copy
import datetime as dt
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticSerializationError
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lacre import AccessDenied, ConfigurationError, Lacre, Mask
from lacre.errors import MisuseError
from lacre.fastapi import install
from lacre.pydantic import Exposed, MaskedAs, Protected, ProtectedModel, expose
from lacre.sqlalchemy import encrypted
from tests.fastapi.serving import asked

CPF, NAME = "529.982.247-25", "Canária Souza"


class Shown(ProtectedModel):
    id: int = 1
    name: Protected[str]
    cpf: Annotated[Protected[str] | None, MaskedAs("cpf")] = None
    born: Annotated[Protected[dt.date], MaskedAs("year")] | None = None
    phones: list[Protected[str]] = Field(default_factory=list)


class Kept:
    """What an ORM's object looks like."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update({"name": NAME, "cpf": CPF, "born": dt.date(1990, 5, 1)} | attributes)


SHOWN = Shown.model_validate(Kept(phones=["+351 210 000 000"]))
OPEN = {"name": NAME, "cpf": CPF, "born": "1990-05-01"}
HIDDEN = {"id": 1, "name": "***", "cpf": "***.***.247-**", "born": "1990", "phones": ["***"]}


def test_json_is_masks() -> None:
    """Whoever looked, the JSON of a protected field is its mask, in every way to it."""
    ways = [
        json.loads(SHOWN.model_dump_json()),
        SHOWN.model_dump(mode="json"),
        TypeAdapter(list[Shown]).dump_python([SHOWN], mode="json")[0],
        json.loads(json.dumps(SHOWN.model_dump(), default=str)),
    ]

    assert ways == [HIDDEN] * len(ways)


def test_nothing_prints_a_value(caplog: pytest.LogCaptureFixture) -> None:
    """`repr`, `str`, formats, logs and tracebacks of models and their fields hold masks."""
    caplog.set_level(logging.INFO)
    logging.info("%s %r", SHOWN, SHOWN)
    logging.info("%s %r", SHOWN.name, SHOWN.cpf)
    exposed = expose(Shown, "name", "cpf").model_validate(SHOWN)
    try:
        raise RuntimeError(exposed, exposed.cpf)
    except RuntimeError:
        trace = traceback.format_exc()
    texts = [caplog.text, trace, repr(SHOWN), f"{exposed} {exposed.name:}", repr([exposed.cpf])]

    assert not any(NAME in text or CPF in text or "1990-05" in text for text in texts)
    assert "***.***.247-**" in repr(SHOWN)


class Renamed(ProtectedModel):
    name: Protected[str] = Field(validation_alias="fullName")
    cpf: Protected[str] = Field(alias="taxId")


def test_fields_of_other_names_are_made_of_an_object_too() -> None:
    """Attributes are looked at by the field's own name, whatever it is called in a body."""
    made = Renamed.model_validate(Kept())

    assert (made.name.reveal(), made.cpf.reveal()) == (NAME, CPF)


def test_a_protected_value_does_not_leave_the_process_by_accident() -> None:
    """It does not pickle, has no attributes to list, and a plain JSON encoder refuses it."""
    with pytest.raises(MisuseError):
        pickle.dumps(SHOWN.name)
    with pytest.raises(TypeError):
        json.dumps(SHOWN.model_dump())
    with pytest.raises(TypeError):
        vars(SHOWN.name)

    assert copy.deepcopy(SHOWN).name == copy.copy(SHOWN.name) == SHOWN.name


def test_reveal_hands_the_value_out() -> None:
    """The only way to the value has a word that can be searched for."""
    assert SHOWN.name.reveal() == NAME
    assert SHOWN.born is not None
    assert SHOWN.born.reveal() == dt.date(1990, 5, 1)
    assert Protected(NAME) == SHOWN.name != Protected(CPF)
    assert len({Protected(NAME), SHOWN.name}) == 1


def test_exposed_fields_are_values_and_the_others_stay() -> None:
    """`expose` opens the fields that are named, for models made of objects and of models."""
    for given in (SHOWN, Kept(phones=["+351 210 000 000"])):
        exposed = expose(Shown, "cpf", "born").model_validate(given)

        assert json.loads(exposed.model_dump_json()) == HIDDEN | {
            "cpf": CPF,
            "born": "1990-05-01",
        }
    assert json.loads(expose(Shown, "phones").model_validate(SHOWN).model_dump_json())[
        "phones"
    ] == ["+351 210 000 000"]


class Listed(BaseModel):
    people: list[Shown]


def test_an_exposing_object_is_masked_where_the_field_does_not_expose() -> None:
    """A field that is declared protected shows masks of an object that exposes, also of a subclass's."""
    exposing = expose(Shown, "name", "cpf").model_validate(SHOWN)
    copied = SHOWN.model_copy(update={"name": Exposed(NAME)})
    ways = [
        TypeAdapter(Shown).dump_python(exposing, mode="json"),
        json.loads(TypeAdapter(Shown).dump_json(exposing)),
        Listed(people=[exposing]).model_dump(mode="json")["people"][0],
        copied.model_dump(mode="json"),
    ]

    assert ways == [HIDDEN] * len(ways)


def test_a_mask_stays_a_mask_where_it_is_exposed() -> None:
    """A reader who was given masks is shown those, and cannot reveal them."""
    masked = Kept(name=Mask("C. S."), cpf=Mask("***"), born=None)
    exposed = expose(Shown, "name", "cpf", "born").model_validate(masked)
    plain = Shown.model_validate(masked)

    assert exposed.model_dump(mode="json", exclude={"phones"}) == {
        "id": 1, "name": "C. S.", "cpf": "***", "born": None,
    }  # fmt: skip
    assert str(plain.name) == "C. S."
    assert plain.name.masked
    with pytest.raises(AccessDenied):
        plain.name.reveal()


def test_only_protected_fields_are_exposed() -> None:
    """A field that is not protected, or not there, is a mistake of the route's."""
    for names in (("id",), ("nothing",), (), ("name", "id")):
        with pytest.raises(ConfigurationError):
            expose(Shown, *names)

    assert expose(Shown, "name") is expose(Shown, "name")
    assert issubclass(expose(Shown, "name"), Shown)


def test_a_mask_that_there_is_not_is_refused_when_declared() -> None:
    """A misspelt mask is not discovered by the first response."""
    with pytest.raises(ConfigurationError):
        MaskedAs("cfp")


def test_a_request_body_takes_values() -> None:
    """In a request a protected field takes what its type does, and hands it out."""
    taken = Shown.model_validate_json(json.dumps({"name": NAME, "cpf": None, "born": "1990-05-01"}))

    assert taken.name.reveal() == NAME
    assert taken.cpf is None
    assert taken.born is not None
    assert taken.born.reveal() == dt.date(1990, 5, 1)
    assert Shown.model_validate(taken.model_dump()) == taken


class Plain(BaseModel):
    """A model that forgot `ProtectedModel`."""

    cpf: Protected[str]
    born: Annotated[Protected[dt.date] | None, MaskedAs("year")] = None


@pytest.mark.parametrize("model", [Shown, Plain])
@pytest.mark.parametrize(
    "wrong", [{"cpf": [CPF], "name": 1}, {"born": CPF, "cpf": "x"}, {"cpf": {CPF: CPF}}]
)
def test_a_validation_error_does_not_quote(model: type[BaseModel], wrong: Any) -> None:
    """What a protected field was given is in no text of the error, and in no traceback."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(wrong)
    told = "".join(traceback.format_exception(caught.value)) + str(
        [error for error in caught.value.errors() if error["type"] == "protected_value"]
    )

    assert CPF not in told


def test_an_assigned_value_is_protected_as_well() -> None:
    """What is given to a field later is taken as at the beginning, and what went around is not shown."""
    changed = SHOWN.model_copy()
    changed.cpf = CPF  # type: ignore[assignment]
    around = Shown.model_construct(name=NAME)

    assert CPF not in repr(changed)
    assert changed.model_dump(mode="json") == HIDDEN
    with pytest.raises(PydanticSerializationError) as caught:
        around.model_dump_json()
    assert NAME not in str(caught.value)


def test_the_model_is_silent_about_fields_that_are_missing() -> None:
    """A `ProtectedModel` does not print the whole of what it was given."""
    with pytest.raises(ValidationError) as caught:
        Shown.model_validate({"cpf": CPF})

    assert "name" in str(caught.value)
    assert CPF not in str(caught.value)


class Pair(ProtectedModel):
    """Either of two, as a validator of its own says."""

    cpf: Protected[str] | None = None
    name: Annotated[str, Field(alias="n")] = ""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.cpf is None) == (self.name == ""):
            raise ValueError("either")
        return self


class Holding(BaseModel):
    one: Pair | None = None
    many: list[Pair] = []


@pytest.mark.parametrize("read", [None, "json"])
def test_no_list_of_errors_holds_what_the_model_was_given(read: str | None) -> None:
    """Of a field that is missing, and of a model that is refused whole, pydantic lists all that was sent."""
    pair = {"cpf": CPF, "n": "x"}
    lists = []
    for model, given in (
        (Shown, {"cpf": CPF}),
        (Pair, pair),
        (Pair, {"cpf": CPF, "n": []}),
        (Holding, {"one": pair, "many": [{"n": "x"}, pair]}),
    ):
        way = model.model_validate if read is None else model.model_validate_json
        with pytest.raises(ValidationError) as caught:
            way(given if read is None else json.dumps(given))
        lists.append([(error["type"], error["loc"]) for error in caught.value.errors()])
        told = "".join(traceback.format_exception(caught.value))
        assert CPF not in told + caught.value.json() + repr(caught.value.errors())
        assert CPF not in repr(caught.value.__context__)

    assert lists == [
        [("missing", ("name",))],
        [("value_error", ())],
        [("string_type", ("n",))],
        [("value_error", ("one",)), ("value_error", ("many", 1))],
    ]


def test_a_model_that_is_refused_after_an_assignment_says_nothing_of_the_others() -> None:
    """Assigning runs the model's validators too, which hold the whole of it."""
    pair = Pair(cpf=CPF)
    with pytest.raises(ValidationError) as caught:
        pair.name = "x"

    assert pair.cpf is not None
    assert pair.cpf.reveal() == CPF
    assert CPF not in repr(caught.value.errors()) + str(caught.value)


def test_the_schema_of_a_response_is_what_is_sent() -> None:
    """Masks are strings; exposed values are of their own type, or a mask."""
    sent = Shown.model_json_schema(mode="serialization")["properties"]
    exposed = expose(Shown, "cpf", "born").model_json_schema(mode="serialization")["properties"]
    taken = Shown.model_json_schema(mode="validation")["properties"]

    mask = {"type": "string", "description": "A mask, never the value."}
    assert sent["name"] == mask | {"title": "Name"}
    assert sent["born"]["anyOf"] == [mask, {"type": "null"}]
    assert exposed["cpf"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert exposed["name"] == sent["name"]
    assert exposed["born"]["anyOf"] == [
        {"type": "string", "format": "date"},
        {"type": "string", "description": "A mask."},
        {"type": "null"},
    ]
    assert taken["born"]["anyOf"][0] == {"type": "string", "format": "date"}


def test_exposed_may_be_declared() -> None:
    """A field that a model always exposes says so itself."""

    class Own(ProtectedModel):
        name: Exposed[str]

    assert json.loads(Own.model_validate({"name": NAME}).model_dump_json()) == {"name": NAME}
    assert NAME not in repr(Own.model_validate({"name": NAME}))


class Base(DeclarativeBase): ...


class Person(Base):
    __tablename__ = "people"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = encrypted("pii", mask="name")
    cpf: Mapped[str] = encrypted("pii", mask="cpf")
    account: Mapped[str | None] = encrypted("banking")


class PersonShown(ProtectedModel):
    id: UUID
    name: Protected[str]
    cpf: Protected[str]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def person(lacre: Lacre, engine: Engine) -> Iterator[Person]:
    """A customer, loaded."""
    session: Session = lacre.sqlalchemy(sessionmaker(engine))()
    with lacre.acting_as("svc:test", roles={"app"}, purpose="test", across_yield=True):
        session.add(Person(name=NAME, cpf=CPF, account="1"))
        session.commit()
        yield session.scalars(select(Person)).one()
    session.close()


def test_a_model_of_an_object_looks_as_whoever_acts(lacre: Lacre, person: Person) -> None:
    """Values for those who may read, masks for those who see masks, whatever the response shows."""
    model = expose(PersonShown, "cpf")
    shown = model.model_validate(person)
    with lacre.acting_as("user:bia", roles={"support"}, purpose="test"):
        masked = model.model_validate(person)

    assert json.loads(shown.model_dump_json()) == {"id": str(person.id), "name": "***", "cpf": CPF}
    assert json.loads(masked.model_dump_json()) == {
        "id": str(person.id),
        "name": "C. S.",
        "cpf": "***.***.247-**",
    }


def test_a_denied_look_is_denied_and_not_invalid(lacre: Lacre, person: Person) -> None:
    """What a look raises comes out of pydantic as it is, and is answered with 403."""
    app = FastAPI()
    install(app)

    @app.get("/", response_model=PersonShown)
    async def shown() -> Any:
        return person

    with (
        lacre.acting_as("user:eve", roles={"guest"}, purpose="test"),
        pytest.raises(AccessDenied),
    ):
        PersonShown.model_validate(person)
    # Nobody acts: what FastAPI makes of the object is made without a principal.
    assert asked(app, "/").json()["code"] == "no-principal"


def test_a_model_looks_at_its_fields_only(lacre: Lacre, person: Person, home: Any) -> None:
    """An attribute that the model does not have is not looked at, so there is no evidence of it."""
    PersonShown.model_validate(person)
    lacre.recorder.flush()
    lines = [json.loads(line) for line in (home / "lacre/audit.jsonl").read_text().splitlines()]

    assert {line["column"] for line in lines if line["action"] == "look"} == {"name", "cpf"}
