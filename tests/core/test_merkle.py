# SPDX-License-Identifier: Apache-2.0
"""Merkle trees against known roots, and against a tree that is made without cleverness."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core import merkle
from lacre._core.merkle import Frontier, leaf_hash, node_hash
from lacre.errors import MisuseError, Tampered

# The leaves and roots that implementations of RFC 6962 are tested with.
LEAVES = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 70)


def hashes(size: int) -> list[bytes]:
    return [leaf_hash(str(each).encode()) for each in range(size)]


def naive(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return merkle.EMPTY
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive(leaves[:k]), naive(leaves[k:]))


def node_of(leaves: Sequence[bytes]) -> merkle.Node:
    def node(level: int, index: int) -> bytes:
        begin, end = index << level, index + 1 << level
        assert end <= len(leaves)  # only perfect subtrees are asked for
        return naive(leaves[begin:end])

    return node


def test_known_roots() -> None:
    """The roots of the known leaves are the known ones, at every size."""
    tree = Frontier()
    found = []
    for leaf in LEAVES:
        tree.append(leaf_hash(leaf))
        found.append(tree.root().hex())

    assert found == ROOTS
    assert (
        Frontier().root().hex()
        == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_known_proof() -> None:
    """The inclusion proof of leaf 0 of 8, and the consistency proof from 6 to 8, are the published ones."""
    node = node_of([leaf_hash(each) for each in LEAVES])

    assert [each.hex() for each in merkle.inclusion_proof(0, 8, node)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [each.hex() for each in merkle.consistency_proof(6, 8, node)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(size=st.integers(0, 200), cut=st.integers(0, 200), parts=st.integers(1, 9))
def test_a_frontier_gives_the_root_however_it_was_fed(size: int, cut: int, parts: int) -> None:
    """A tree that was stored, taken up again and fed in parts has the root of the same leaves at once."""
    leaves, cut = hashes(size), min(cut, size)
    tree = Frontier()
    tree.extend(leaves[:cut])
    again = Frontier(tree.size, tree.hashes)
    for begin in range(cut, size, parts):
        again.extend(leaves[begin : min(begin + parts, size)])

    assert again.root() == naive(leaves)
    assert again.size == size
    assert tree.root() == naive(leaves[:cut])


@given(chunks=st.integers(0, 9), level=st.integers(0, 4), rest=st.integers(0, 15))
def test_subtrees_join(chunks: int, level: int, rest: int) -> None:
    """Perfect subtrees that were made apart join to the same tree."""
    leaves = hashes((chunks << level) + rest)
    tree = Frontier()
    for each in range(chunks):
        tree.join(level, naive(leaves[each << level : each + 1 << level]))
    tree.extend(leaves[chunks << level :])

    assert tree.root() == naive(leaves)


def test_a_subtree_joins_where_it_is_aligned_only() -> None:
    """A subtree of two leaves does not join a tree of one."""
    tree = Frontier()
    tree.append(leaf_hash(b"x"))

    with pytest.raises(MisuseError):
        tree.join(1, leaf_hash(b"y"))


@pytest.mark.parametrize(("size", "count"), [(3, 1), (-1, 0), (0, 1)])
def test_a_frontier_has_the_hashes_of_its_size(size: int, count: int) -> None:
    """A stored state with another number of hashes is refused."""

    with pytest.raises(MisuseError):
        Frontier(size, [bytes(32)] * count)


@given(size=SIZES, data=st.data())
def test_every_leaf_is_proved_included(size: int, data: st.DataObject) -> None:
    """A proof convinces of its leaf at its place in its tree, and of nothing beside it."""
    index = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    root = naive(leaves)
    proof = merkle.inclusion_proof(index, size, node_of(leaves))

    merkle.verify_inclusion(index, size, leaves[index], proof, root)
    for other in set(range(size)) - {index}:
        with pytest.raises(Tampered):
            merkle.verify_inclusion(other, size, leaves[index], proof, root)
    for wrong in (
        (index, size, leaf_hash(b"another"), proof, root),
        (index, size, leaves[index], [*proof, bytes(32)], root),
        (index, size, leaves[index], proof, bytes(32)),
        (size, size, leaves[index], proof, root),
        *((index, size, leaves[index], proof[:-1], root) for _ in proof[:1]),
        *((index, size, leaves[index], _flipped(proof, at), root) for at in range(len(proof))),
    ):
        with pytest.raises(Tampered):
            merkle.verify_inclusion(*wrong)


@given(new=SIZES, data=st.data())
def test_every_tree_is_proved_the_beginning_of_a_later_one(new: int, data: st.DataObject) -> None:
    """A consistency proof convinces of its two trees only."""
    old = data.draw(st.integers(1, new))
    leaves = hashes(new)
    before, after = naive(leaves[:old]), naive(leaves)
    proof = merkle.consistency_proof(old, new, node_of(leaves))

    merkle.verify_consistency(old, new, before, after, proof)
    for wrong in (
        (old, new, bytes(32), after, proof),
        (old, new, before, bytes(32), proof),
        (old, new, before, after, [*proof, bytes(32)]),
        (0, new, before, after, proof),
        *((old, new, before, after, proof[:-1]) for _ in proof[:1]),
        *((old, new, before, after, _flipped(proof, at)) for at in range(len(proof))),
    ):
        with pytest.raises(Tampered):
            merkle.verify_consistency(*wrong)


@given(size=st.integers(2, 70), data=st.data())
def test_a_forked_tree_has_no_consistency_proof(size: int, data: st.DataObject) -> None:
    """A tree whose old part was changed is not proved to continue the tree of before."""
    old = data.draw(st.integers(1, size - 1))
    leaves = hashes(size)
    changed = [leaf_hash(b"changed"), *leaves[1:]]
    proof = merkle.consistency_proof(old, size, node_of(changed))

    with pytest.raises(Tampered):
        merkle.verify_consistency(old, size, naive(leaves[:old]), naive(changed), proof)


def test_proofs_are_made_of_what_is_there() -> None:
    """No proof is made of a leaf or a tree that is not in the tree."""
    node = node_of(hashes(3))

    with pytest.raises(MisuseError):
        merkle.inclusion_proof(3, 3, node)
    with pytest.raises(MisuseError):
        merkle.consistency_proof(4, 3, node)


def _flipped(proof: list[bytes], at: int) -> list[bytes]:
    changed = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    return [*proof[:at], changed, *proof[at + 1 :]]
