"""Who acts is whoever opened the block, in it, and nobody after it."""

import asyncio
import concurrent.futures
import gc
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from lacre import acting_as
from lacre.context import current, nobody
from lacre.errors import ActingEnded, ConfigurationError, MisuseError, NoPrincipal


def block(principal: str = "svc:x", **more: Any) -> acting_as:
    return acting_as(principal, roles={"app"}, purpose="test", **more)


def test_inside_it_acts_and_outside_nobody_does() -> None:
    """Before and after the block there is no principal."""
    with pytest.raises(NoPrincipal):
        current()
    with block() as acting:
        assert current() is acting
        assert (acting.principal, acting.roles, acting.purpose) == ("svc:x", {"app"}, "test")

    with pytest.raises(NoPrincipal):
        current()


def test_blocks_nest() -> None:
    """The inner block acts, then the outer one again."""
    with block("a"):
        with block("b"):
            assert current().principal == "b"
        assert current().principal == "a"


def test_nobody_acts_in_a_block_of_nobody() -> None:
    """Whoever acts around it does not inside; a block may be opened in it, and afterwards all is as before."""
    with block("a"):
        with nobody():
            with pytest.raises(NoPrincipal):
                current()
            with block("b"):
                assert current().principal == "b"
        assert current().principal == "a"


def test_blocks_closed_in_the_wrong_order_leave_nobody_acting() -> None:
    """An outer block closed first does not bring its principal back when the inner one closes."""
    outer, inner = block("a"), block("b")

    def crossed() -> None:
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        with pytest.raises(ActingEnded):
            current()

    copy_context().run(crossed)


def test_an_exception_ends_the_block() -> None:
    """However it is left, it is over."""
    with pytest.raises(ZeroDivisionError), block() as acting:
        raise ZeroDivisionError

    assert acting.ended
    with pytest.raises(NoPrincipal):
        current()


def test_a_block_is_entered_once() -> None:
    """Neither while it is open nor after it is over."""
    opened = block()
    with opened, pytest.raises(MisuseError):
        opened.__enter__()
    with pytest.raises(MisuseError):
        opened.__enter__()


def generator() -> Iterator[int]:
    with block():
        yield 1


async def async_generator() -> AsyncIterator[int]:
    with block():
        yield 1


@contextmanager
def manager() -> Iterator[None]:
    with block():
        yield


def stacked() -> Iterator[int]:
    with ExitStack() as stack:
        stack.enter_context(block())
        yield 1


async def async_stacked() -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        stack.enter_context(block())
        yield 1


async def first(values: AsyncIterator[int]) -> int:
    return await anext(values)


@pytest.mark.parametrize(
    "use",
    [
        lambda: next(generator()),
        lambda: asyncio.run(first(async_generator())),
        lambda: manager().__enter__(),
        lambda: next(stacked()),
        lambda: asyncio.run(first(async_stacked())),
    ],
)
def test_a_block_in_a_generator_is_refused(use: Callable[[], object]) -> None:
    """It would leave the consumer acting as this principal; the error shows the way out."""
    with pytest.raises(MisuseError, match="generator") as caught:
        use()

    assert "across_yield=True" in caught.value.hint
    with pytest.raises(NoPrincipal):
        current()


def test_a_coroutine_is_no_generator() -> None:
    """Async code opens a block like any other."""

    async def work() -> str:
        with block():
            await asyncio.sleep(0)
            return current().principal

    assert asyncio.run(work()) == "svc:x"


def test_across_yield_allows_it_and_a_leak_is_inert() -> None:
    """A generator that is abandoned leaves an ended acting behind, never a living one."""

    def meant() -> Iterator[int]:
        with block(across_yield=True):
            yield 1

    values = meant()
    next(values)
    assert current().principal == "svc:x"
    del values
    gc.collect()

    with pytest.raises(NoPrincipal):
        current()


def test_an_async_generator_closed_elsewhere_leaves_an_ended_acting() -> None:
    """Closed in another context than it was opened in: no error, and nobody acts."""

    async def meant() -> AsyncIterator[int]:
        with block(across_yield=True):
            yield 1

    async def consume() -> None:
        values = meant()
        await anext(values)
        assert current().principal == "svc:x"
        await asyncio.create_task(values.aclose())  # type: ignore[attr-defined]
        with pytest.raises(ActingEnded):
            current()

    asyncio.run(consume())


def test_a_task_acts_while_the_block_is_open_and_not_after() -> None:
    """A background task that outlives the block is refused, by name."""

    async def work() -> None:
        go = asyncio.Event()

        async def child() -> str:
            assert current().principal == "svc:x"
            await go.wait()
            with pytest.raises(ActingEnded, match="svc:x") as caught:
                current()
            return caught.value.hint

        with block():
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        go.set()
        assert "background task" in await task

    asyncio.run(work())


def test_a_context_that_leaked_past_the_end_is_refused() -> None:
    """Whoever still holds a copy of the context does not act in it."""
    with block():
        leaked = copy_context()
        assert leaked.run(lambda: current().principal) == "svc:x"

    with pytest.raises(ActingEnded):
        leaked.run(current)


def test_decisions_end_with_the_block() -> None:
    """What was decided for an acting is forgotten with it."""
    with block() as acting:
        acting.decisions["x"] = "allowed"

    assert not acting.decisions


def test_another_thread_does_not_act() -> None:
    """An executor's thread has no principal until it opens a block of its own."""

    def work() -> None:
        with pytest.raises(NoPrincipal):
            current()

    with block(), ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()

    async def elsewhere() -> None:
        with block():
            await asyncio.get_running_loop().run_in_executor(None, work)

    asyncio.run(elsewhere())


def test_two_tasks_do_not_see_each_other() -> None:
    """Blocks open at the same time in two tasks stay apart."""

    async def one(name: str) -> str:
        with block(name):
            for _ in range(5):
                await asyncio.sleep(0)
                assert current().principal == name
        return name

    async def both() -> list[str]:
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == ["a", "b"]


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\u2028b", "\ud800", "x" * 256, "", 7])
@pytest.mark.parametrize("what", ["principal", "purpose", "role"])
def test_a_name_is_printable_and_short(what: str, name: str) -> None:
    """What would break a line of evidence, or fill it, is no principal, purpose or role; 255 letters are."""
    said = {"principal": "svc:x", "purpose": "kyc", "role": "app"}

    def act(name: str) -> acting_as:
        given = said | {what: name}
        return acting_as(given["principal"], purpose=given["purpose"], roles={given["role"]})

    with act("é" * 255):
        pass
    with pytest.raises(ConfigurationError, match=f"a {what} is 1 to 255 printable characters"):
        act(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"principal": ""},
        {"principal": None},
        {"roles": "admin"},
        {"roles": [1]},
        {"roles": ["app", None]},
        {"purpose": ""},
        {"purpose": None},
        {"tenant": ""},
        {"tenant": 7},
    ],
)
def test_who_acts_is_said_in_words(wrong: dict[str, Any]) -> None:
    """Principal, roles, purpose and tenant are non-empty text, and a role is not a string of letters."""
    said: dict[str, Any] = {"principal": "svc:x", "roles": {"app"}, "purpose": "test"} | wrong
    with pytest.raises(ConfigurationError):
        acting_as(said.pop("principal"), **said)


def _who() -> str:
    try:
        return current().principal
    except ActingEnded as error:
        return type(error).__name__
    except NoPrincipal as error:
        return type(error).__name__


def test_a_worker_forked_inside_a_block_does_not_act_as_its_principal() -> None:
    """A pool starts its worker when the first request submits work; it never acts as that request."""
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("fork")
    ) as pool:
        with acting_as("user:first", purpose="test"):
            first = pool.submit(_who).result()
        with acting_as("user:second", purpose="test"):
            second = pool.submit(_who).result()

    assert (first, second) == ("ActingEnded", "ActingEnded")


def test_a_child_acts_in_a_block_of_its_own() -> None:
    """Inside one that was forked too; leaving it leaves the ended one, not nobody."""

    def child(told: Any) -> None:
        with acting_as("svc:child", purpose="test"):
            told.put(_who())
        told.put(_who())

    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    with acting_as("user:parent", purpose="test"):
        process = context.Process(target=child, args=(told,))
        process.start()
        process.join(30)
        here = _who()

    assert [told.get(), told.get(), here] == ["svc:child", "ActingEnded", "user:parent"]
