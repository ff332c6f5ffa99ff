# SPDX-License-Identifier: Apache-2.0
"""
Indexes, as they are declared: what all kinds have in common, and `BlindIndex`, which answers equality.

An index holds names and numbers, never a key: the keys of its parts are given to it with every
value. Implements ``spec/field-format.md``, section "Blind index". Does not derive keys
(`lacre.fields.field`) and does not store tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from lacre._core.blind import token
from lacre._core.derive import PreparedKey
from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import Codec
from lacre.fields.normalisers import normaliser
from lacre.fields.stored import IndexToken

__all__ = ["DEFAULT_BITS", "BlindIndex", "Index", "Question", "check_in_parts", "normal_form"]

_NUMBERS = frozenset(("digits", "cnpj", "phone", "routing_number"))

DEFAULT_BITS = 32
"""
Of an index of which nobody said. How many are safe depends on rows that are not there when a model
is written; what is declared short can be asked as any shorter one can, so the planned length takes
its place without another change. It hides nothing meanwhile (``docs/adr/0030``).
"""

Question = Literal["equals", "startswith", "endswith", "contains"]


class Index(Protocol):
    """
    What makes a field searchable in one way. Frozen and hashable.

    *keys* of the methods are the index keys of `parts`, in their order. *kind* (``exact``,
    ``prefix``, ...) is bound in every token; *several* says whether a value has several tokens, and
    not one; *questions* are what the index answers.
    """

    kind: ClassVar[str]
    several: ClassVar[bool]
    questions: ClassVar[frozenset[Question]]

    @property
    def name(self) -> str:
        """Unique among the indexes of a field; bound in every token."""
        ...

    @property
    def normaliser(self) -> str:
        """What makes two spellings one value."""
        ...

    @property
    def version(self) -> int:
        """Of the normaliser."""
        ...

    @property
    def bits(self) -> int:
        """The length of a token."""
        ...

    @property
    def unique(self) -> bool:
        """Whether the database refuses a second row with one value."""
        ...

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have index keys of their own."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a hit needs no re-check on the plaintext."""
        ...

    @property
    def always(self) -> bytes | None:
        """What a value is stored with that is a candidate for every question; None: there is none."""
        ...

    def least(self, question: Question) -> int:
        """Return how many characters of the normalised text *question* takes."""
        ...

    def check(self, codec: Codec) -> None:
        """Raise `ConfigurationError` unless values of *codec* can be indexed this way."""
        ...

    def tokens(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> bytes:
        """Return what is stored for *value*, or raise `InvalidValue`."""
        ...

    def known(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> bytes:
        """Return what of `tokens` is the same each time: those that are not random."""
        ...

    def asked(
        self, question: Question, value: object, codec: Codec, keys: Sequence[PreparedKey]
    ) -> bytes:
        """Return what finds the rows for which *question* about *value* may be answered by yes."""
        ...

    def normalised(self, value: object, codec: Codec) -> bytes:
        """Return *value* as `answers` compares it."""
        ...

    def answers(self, question: Question, held: object, wanted: bytes, codec: Codec) -> bool:
        """Return the answer of the plaintext *held* itself."""
        ...


def normal_form(name: str, value: object, codec: Codec) -> bytes:
    """
    Return the bytes that the normaliser *name* makes of *value*.

    Raises:
        InvalidValue: it takes no such value.
    """
    if name == "exact":
        return bytes(codec.encode(value))
    if not isinstance(value, str):
        raise InvalidValue(
            f"the normaliser {name} takes text, the value is of type {type(value).__name__}"
        )
    return normaliser(name).normalise(value).encode()


def check_in_parts(name: str, *, takes: Sequence[str]) -> None:
    """
    Raise unless parts of a value may be indexed that the normaliser *name* makes.

    Raises:
        ConfigurationError: the values are numbers, which their parts give away: of three digits
            there are a thousand; or the normaliser takes whole values only.
    """
    rule = normaliser(name)
    if name in takes:
        return
    if rule.sensitive is not None or name.partition(":")[0] in _NUMBERS:
        why = "parts of a number are few enough to be tried out, and give the number away"
    else:
        why = f"the normaliser {name} takes whole values only"
    raise ConfigurationError(
        f"{name} is not indexed in parts: {why}",
        hint=f"BlindIndex({name!r}) finds the whole value; in parts go {', '.join(takes)}",
    )


@dataclass(frozen=True, slots=True)
class BlindIndex:
    """
    Make an encrypted field searchable by equality.

    Args:
        normaliser: what makes two spellings one value; see ``docs/reference/normalisers.md``.
        unique: let the database refuse a second row with one value. Needs 96 bits or more,
            and thereby tells anyone who reads the column which rows hold equal values.
        bits: of the token. 96 if unique, else 32 until ``lacre index plan`` says how many: a short
            token is to be shared by several values, and hits are re-checked on the plaintext. One
            of 32 bits hardly ever is, so it shows whoever has the table which rows hold equal
            values, as a unique one does. From 96 bits on nothing is re-checked.
        name: of the index; the normaliser's by default. Bound in every token.
    """

    normaliser: str
    unique: bool = field(default=False, kw_only=True)
    bits: int = field(default=0, kw_only=True)
    name: str = field(default="", kw_only=True)

    kind: ClassVar[str] = "exact"
    several: ClassVar[bool] = False
    questions: ClassVar[frozenset[Question]] = frozenset(("equals",))

    def __post_init__(self) -> None:
        normaliser(self.normaliser)
        if not self.bits:
            object.__setattr__(self, "bits", 96 if self.unique else DEFAULT_BITS)
        if not self.name:
            object.__setattr__(self, "name", self.normaliser)
        if not 8 <= self.bits <= 512:
            raise ConfigurationError(
                "a blind index has 8 to 512 bits",
                hint="`lacre index plan` says how many; from 96 bits on nothing is re-checked",
            )
        if self.unique and self.bits < 96:
            raise ConfigurationError(
                f"a unique blind index of {self.bits} bits would refuse values that are not there",
                hint="give it 96 bits or more: bits=96",
            )

    @property
    def version(self) -> int:
        """The normaliser's."""
        return normaliser(self.normaliser).version

    @property
    def exact(self) -> bool:
        """Whether a hit needs no re-check: 96 bits never collide by chance in one table."""
        return self.bits >= 96

    @property
    def always(self) -> bytes | None:
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        return ("",)

    def least(self, question: Question) -> int:
        return 0

    def check(self, codec: Codec) -> None:
        if self.normaliser != "exact" and codec.name != "str":
            raise ConfigurationError(
                f"the normaliser {self.normaliser} takes text, the field holds {codec.name}",
                hint='BlindIndex("exact") takes any type',
            )

    def tokens(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexToken:
        return IndexToken(token(keys[0], normal_form(self.normaliser, value, codec), self.bits))

    def known(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexToken:
        return self.tokens(value, codec, keys)

    def asked(
        self, question: Question, value: object, codec: Codec, keys: Sequence[PreparedKey]
    ) -> IndexToken:
        return self.tokens(value, codec, keys)

    def normalised(self, value: object, codec: Codec) -> bytes:
        return normal_form(self.normaliser, value, codec)

    def answers(self, question: Question, held: object, wanted: bytes, codec: Codec) -> bool:
        return normal_form(self.normaliser, held, codec) == wanted
