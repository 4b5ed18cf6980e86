"""The list of attacks itself."""

from __future__ import annotations

from tests.security.attacks import list_attacks


def test_each_attack_says_what_it_tries_and_what_stops_it():
    unsaid = [attack.test for attack in list_attacks() if not attack.tries]
    assert not unsaid
