from __future__ import annotations

from collections.abc import Collection

import pytest

from chatd.connection import EVERYTHING, ONE_TO_ONE, Connection, Scope, one_group
from chatd.registry import ConnectionRegistry
from tests.rooms import ANN, BOB, Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


class Edges:
    """The registry under test, and what it told of comings and goings."""

    def __init__(self, lab: Lab) -> None:
        self.registry = ConnectionRegistry()
        self.told: list[tuple[str, bool]] = []
        self.registry.on_edge(lambda user, online: self.told.append((user, online)))
        self._lab = lab

    def add(
        self, user: str = ANN, scope: Scope = EVERYTHING, groups: Collection[str] | None = None
    ) -> Connection:
        connection, _ = self._lab.connect(user, scope)
        self.registry.add(connection)
        if groups is not None:
            self.registry.set_groups(user, groups)
        return connection


@pytest.fixture
def edges(lab: Lab) -> Edges:
    return Edges(lab)


def test_the_first_connection_and_the_end_of_the_last_are_told(edges: Edges) -> None:
    first, second, other = edges.add(), edges.add(), edges.add(BOB)
    assert edges.told == [(ANN, True), (BOB, True)]
    edges.registry.remove(first)
    edges.registry.remove(other)
    assert edges.told[2:] == [(BOB, False)]
    edges.registry.remove(second)
    edges.add()
    assert edges.told[3:] == [(ANN, False), (ANN, True)]


def test_an_edge_is_told_when_it_has_happened(edges: Edges) -> None:
    seen: list[bool] = []
    edges.registry.on_edge(lambda user, _: seen.append(edges.registry.is_online(user)))
    edges.registry.remove(edges.add())
    assert seen == [True, False]


def test_it_knows_who_is_on_line_and_through_what(edges: Edges) -> None:
    registry = edges.registry
    first, second, other = edges.add(), edges.add(scope=ONE_TO_ONE), edges.add(BOB)
    assert list(registry.online_users()) == [ANN, BOB]
    assert list(registry.of_user(ANN)) == [first, second]
    assert list(registry.of_user("nobody@example.org")) == []
    assert list(registry) == [first, second, other]
    assert len(registry) == 3


def test_all_connections_may_be_removed_while_one_looks_at_them(edges: Edges) -> None:
    for user in (ANN, ANN, BOB):
        edges.add(user)
    for connection in edges.registry:
        edges.registry.remove(connection)
    assert len(edges.registry) == 0


def test_removing_twice_does_nothing(edges: Edges) -> None:
    connection, other = edges.add(), edges.add()
    edges.registry.remove(connection)
    edges.registry.remove(connection)
    assert (len(edges.registry), edges.told) == (1, [(ANN, True)])
    edges.registry.remove(other)
    edges.registry.remove(other)
    assert (len(edges.registry), edges.told) == (0, [(ANN, True), (ANN, False)])


# -- groups ------------------------------------------------------------------------------------


def test_a_group_reaches_its_members_once_their_groups_are_known(edges: Edges) -> None:
    registry = edges.registry
    ann, bob = edges.add(), edges.add(BOB)
    assert registry.groups_of(ANN) is None
    assert list(registry.of_group("python")) == []
    registry.set_groups(ANN, ["python", "other"])
    assert set(registry.groups_of(ANN) or ()) == {"python", "other"}
    assert list(registry.of_group("python")) == [ann]
    registry.set_groups(BOB, ["python"])
    assert list(registry.of_group("python")) == [ann, bob]
    assert list(registry.of_group("other")) == [ann]


def test_a_second_connection_is_in_the_groups_at_once(edges: Edges) -> None:
    first, second = edges.add(groups=["python"]), edges.add()
    assert list(edges.registry.of_group("python")) == [first, second]


def test_two_connections_that_wait_for_the_groups_both_get_them(edges: Edges) -> None:
    first, second = edges.add(), edges.add()
    edges.registry.set_groups(ANN, ["python"])
    edges.registry.set_groups(ANN, ["python", "late answer"])
    assert list(edges.registry.of_group("python")) == [first, second]
    assert list(edges.registry.of_group("late answer")) == []


def test_joining_and_leaving_move_every_connection_of_the_user(edges: Edges) -> None:
    first, second = edges.add(groups=[]), edges.add()
    edges.registry.join("python", ANN)
    assert list(edges.registry.of_group("python")) == [first, second]
    assert edges.registry.groups_of(ANN) == {"python"}
    edges.registry.leave("python", ANN)
    assert list(edges.registry.of_group("python")) == []
    assert edges.registry.groups_of(ANN) == set()


def test_joins_and_leaves_before_the_groups_are_known_are_laid_over_them(edges: Edges) -> None:
    registry = edges.registry
    connection = edges.add()
    registry.join("joined", ANN)
    registry.leave("left", ANN)
    registry.join("both", ANN)
    registry.leave("both", ANN)
    assert registry.groups_of(ANN) is None
    registry.set_groups(ANN, ["kept", "left", "both"])
    assert registry.groups_of(ANN) == {"kept", "joined"}
    assert list(registry.of_group("joined")) == [connection]
    assert list(registry.of_group("left")) == []
    assert list(registry.of_group("both")) == []


def test_groups_that_come_when_the_user_has_gone_are_dropped(edges: Edges) -> None:
    edges.registry.remove(edges.add())
    edges.registry.set_groups(ANN, ["python"])
    edges.registry.join("python", ANN)
    assert edges.registry.groups_of(ANN) is None
    assert list(edges.registry.of_group("python")) == []


def test_who_comes_back_has_the_groups_read_again(edges: Edges) -> None:
    edges.registry.remove(edges.add(groups=["python"]))
    edges.add()
    assert edges.registry.groups_of(ANN) is None


@pytest.mark.parametrize(
    ("scope", "carried"),
    [(EVERYTHING, ["other", "python"]), (ONE_TO_ONE, []), (one_group("python"), ["python"])],
)
@pytest.mark.parametrize("known", ["before", "after", "joined"])
def test_a_connection_gets_the_groups_that_its_scope_covers(
    edges: Edges, scope: Scope, carried: list[str], known: str
) -> None:
    registry, groups = edges.registry, ["other", "python"]
    if known == "before":
        edges.add(groups=groups)
    connection = edges.add(scope=scope)
    if known == "after":
        registry.set_groups(ANN, groups)
    if known == "joined":
        registry.set_groups(ANN, [])
        for group in groups:
            registry.join(group, ANN)
    assert [group for group in groups if connection in registry.of_group(group)] == carried
    assert set(registry.groups_of(ANN) or ()) == set(groups)


def test_nothing_is_left_behind(edges: Edges) -> None:
    registry = edges.registry
    connections = [
        edges.add(groups=["python", "other"]),
        edges.add(scope=one_group("python")),
        edges.add(BOB, groups=["python"]),
        edges.add("eve@example.org"),
    ]
    registry.join("late", BOB)
    registry.join("late", "eve@example.org")
    registry.leave("never joined", BOB)
    for connection in connections:
        registry.remove(connection)
    assert (len(registry), list(registry), list(registry.online_users())) == (0, [], [])
    assert registry._groups == {}
    assert registry._users == {}
