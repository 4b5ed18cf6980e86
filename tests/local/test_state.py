from __future__ import annotations

import socket

import psutil
import pytest

from vidpipe.errors import TemporaryError, UsageError
from vidpipe.local.state import (
    StackState,
    free_ports,
    is_free,
    load_running,
    require_running,
)


def test_state_survives_saving(tmp_path):
    state = StackState(tmp_path.resolve(), ports={"s3": 1}, processes={"s3": (12, 1.5)})
    state.save()
    assert StackState.load(tmp_path) == state


def test_each_stack_has_its_own_secrets(tmp_path):
    one, other = StackState(tmp_path), StackState(tmp_path)
    assert one.airflow_password != other.airflow_password
    assert one.airflow_password not in repr(one)


def test_damaged_state_says_what_to_do(tmp_path):
    (tmp_path / "stack.json").write_text('{"ports": ')
    with pytest.raises(UsageError, match="delete"):
        StackState.load(tmp_path)


def test_no_stack_is_one_clear_line(tmp_path):
    with pytest.raises(TemporaryError, match="VIDPIPE_CONFIG.*vidpipe up$"):
        load_running(tmp_path)
    StackState(tmp_path.resolve()).save()
    with pytest.raises(TemporaryError, match="No stack runs in .*vidpipe up$"):
        load_running(tmp_path)


def test_a_part_that_died_is_named_to_those_who_need_it(tmp_path):
    me = psutil.Process()
    processes = {"s3": (me.pid, me.create_time()), "scheduler": (me.pid, 1.0)}
    StackState(tmp_path.resolve(), processes=processes).save()
    require_running(tmp_path, "s3")
    for parts in (("scheduler",), ("s3", "scheduler"), ()):
        with pytest.raises(TemporaryError, match="^scheduler died.*vidpipe up"):
            require_running(tmp_path, *parts)


def test_ports(tmp_path):
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert all(map(is_free, ports))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
    assert not is_free(70_000)
