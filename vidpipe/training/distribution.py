"""Training on several devices at once: the GPUs of one machine, or those of several workers.

Every worker is a process that runs the same command. Each takes its rows of every batch, which it
knows from the batch's number, and the gradients of all are added up before the weights change: the
weights stay the same everywhere, and are those that one device would have learnt, but for the order
in which numbers are added.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from vidpipe.console import echo
from vidpipe.datasets.pipeline import Part
from vidpipe.errors import EXIT_TEMPORARY, TemporaryError, UsageError

INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes sets it in the pods of an Indexed Job
HOSTS = "VIDPIPE_WORKER_HOSTS"
WAIT_S = "VIDPIPE_WORKERS_WAIT_S"
MEET_EVERY_S = 0.5
# Once all are there.
CONNECT_WITHIN_S = 120.0
TRAIN, NOTHING = "train", "nothing to train"


# === Workers ===


@dataclass(frozen=True)
class Workers:
    """The workers of a training, and which of them this process is.

    Attributes:
        index: Of this one. The first, 0, alone tells anybody of the training.
        hosts: `host:port` of each; none where there is only one.
        wait_s: So long they wait for each other: a node may have to be added for one of them, and
            a large image to be pulled.
    """

    index: int = 0
    hosts: tuple[str, ...] = ()
    wait_s: float = 600.0

    @classmethod
    def from_environment(cls) -> Workers:
        """What `VIDPIPE_WORKER_HOSTS`, `JOB_COMPLETION_INDEX` and `VIDPIPE_WORKERS_WAIT_S` say.

        Raises:
            UsageError: They do not say which of the hosts this is, or give no port.
        """
        hosts = tuple(filter(None, (h.strip() for h in os.environ.get(HOSTS, "").split(","))))
        if len(hosts) < 2:
            return cls()
        wrong = [host for host in hosts if not re.fullmatch(r".+:\d+", host)]
        if wrong:
            raise UsageError(f"{HOSTS} must list HOST:PORT of each worker. Received: {wrong[0]!r}")
        index = os.environ.get(INDEX, "")
        if not index.isdecimal() or int(index) >= len(hosts):
            raise UsageError(
                f"{INDEX} must be from 0 to {len(hosts) - 1}, as {HOSTS} lists {len(hosts)}."
                f" Received: {index!r}"
            )
        return cls(int(index), hosts, float(os.environ.get(WAIT_S, cls.wait_s)))

    @property
    def count(self) -> int:
        """How many there are."""
        return max(1, len(self.hosts))

    @property
    def first(self) -> bool:
        """Whether this is the one that tells of the training."""
        return self.index == 0

    def meet(self, train: bool = True) -> bool:
        """Waits until all workers are there.

        TensorFlow would wait, too, but deaf to stop signals.

        Args:
            train: Of the first: whether there is anything to train.

        Returns:
            What the first said.

        Raises:
            TemporaryError: One did not come in time.
        """
        if self.count == 1:
            return train
        until_s = time.monotonic() + self.wait_s
        if not self.first:
            return self._join(until_s)
        self._gather(TRAIN if train else NOTHING, until_s)
        return train

    def _gather(self, word: str, until_s: float) -> None:
        came: dict[int, socket.socket] = {}
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(_listener(self.hosts[0], until_s))
            while missing := sorted(set(range(1, self.count)) - set(came)):
                listener.settimeout(max(MEET_EVERY_S, until_s - time.monotonic()))
                try:
                    connection = opened.enter_context(listener.accept()[0])
                except TimeoutError:
                    gone = ", ".join(f"{number} ({self.hosts[number]})" for number in missing)
                    raise TemporaryError(
                        f"Of {self.count} workers these did not come within"
                        f" {self.wait_s:g} s: {gone}."
                    ) from None
                number = _said(connection)
                if number.isdecimal() and 0 < int(number) < self.count:
                    came[int(number)] = connection
                else:
                    connection.close()
            for connection in came.values():
                # One that is gone by now is missed soon enough.
                with contextlib.suppress(OSError):
                    connection.sendall(f"{word}\n".encode())

    def _join(self, until_s: float) -> bool:
        while (left_s := until_s - time.monotonic()) > 0:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(_address(self.hosts[0]), left_s) as connection,
            ):
                connection.sendall(f"{self.index}\n".encode())
                word = connection.makefile().readline().rstrip()
                if word in (TRAIN, NOTHING):
                    return word == TRAIN
            time.sleep(MEET_EVERY_S)
        raise TemporaryError(
            f"The first of {self.count} workers ({self.hosts[0]}) did not call for the training"
            f" within {self.wait_s:g} s."
        )


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return name, int(port)


def _said(connection: socket.socket) -> str:
    """A line of a worker; nothing from whoever else knocks at the port."""
    connection.settimeout(MEET_EVERY_S)
    try:
        return connection.makefile().readline(16).rstrip()
    except (OSError, ValueError):
        return ""


def _listener(host: str, until_s: float) -> socket.socket:
    address = _address(host)
    while True:
        try:
            family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server(address, family=family)
        except OSError as error:
            # The name of a new pod is known a little later.
            if time.monotonic() > until_s:
                raise TemporaryError(
                    f"The first worker cannot listen at {host}, its own address: {error}"
                ) from error
        time.sleep(MEET_EVERY_S)


# === Replicas ===


class Replicas:
    """The devices that train together: each has a replica of the network.

    Args:
        strategy: How TensorFlow spreads the work; by default it does not.
        workers: Whose devices they are.

    Attributes:
        workers: Whose devices they are.
        count: Of all devices of all workers.
        parts: What each of this worker's devices takes of a batch.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, workers: Workers | None = None
    ):
        self._strategy = strategy or tf.distribute.get_strategy()
        self.workers = workers or Workers()
        self.count = self._strategy.num_replicas_in_sync
        own = self.count // self.workers.count
        first = self.workers.index * own
        self.parts = [Part(first + number, self.count) for number in range(own)]

    @property
    def devices(self) -> str:
        """How many of which kind there are, such as `4 GPU`."""
        return f"{self.count} {'GPU' if tf.config.list_physical_devices('GPU') else 'CPU'}"

    def scope(self) -> contextlib.AbstractContextManager:
        """What is built in here is built on every device."""
        return self._strategy.scope()

    def of_first(self, *numbers: int) -> tuple[int, ...]:
        """The numbers that the first worker has; all ask for them at the same time."""
        if self.workers.count == 1:
            return numbers
        shown = tf.constant(numbers, tf.float64)

        @tf.function
        def tell() -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            first = tf.cast(replica.replica_id_in_sync_group == 0, shown.dtype)
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, shown * first)

        told = self._strategy.experimental_local_results(self._strategy.run(tell))[0]
        return tuple(int(number) for number in told)

    def replicate(self, model: keras.Model) -> keras.Model:
        """A network on every device, which learns as the given one would; on one device, that one.

        Its averages are taken over the whole batch.
        """
        if self.count == 1:
            return model
        with self.scope():
            replica = keras.models.clone_model(model, clone_function=_clone, recursive=True)
        copy_variables(model, replica)
        return replica

    def draw_apart(self, model: keras.Model) -> None:
        """Makes each replica draw random numbers of its own; so far all have those of the first."""
        weights = {id(variable) for variable in model.weights}
        # The states of random numbers: a seed and how often it was drawn from.
        for seed in (v for v in model.variables if id(v) not in weights):
            self._strategy.run(self._spread, args=(seed,))

    @staticmethod
    def _spread(seed: keras.Variable) -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed.assign_add(tf.cast(tf.stack([replica, 0]), seed.dtype))

    def compiled(
        self, step: Callable[..., tf.Tensor], sums: keras.Variable
    ) -> Callable[[Sequence[Iterator], bool], bool]:
        """A step that all replicas do together, each on its part of the batch.

        Args:
            step: Gets clips (or clips and sound), labels, weights, and how many rows the whole
                batch has; returns its share of what is added to `sums`.
            sums: Of all replicas, the same in every worker.

        Returns:
            A function that does the step. It gets an iterator of the batches of each of `parts`,
            and whether this worker is to stop; it returns whether any of the workers is to.
        """

        def on_replica(*values):
            *inputs, labels, weights, rows, stopping = values
            inputs = inputs[0] if len(inputs) == 1 else tuple(inputs)
            told = step(inputs, labels, weights, tf.cast(rows, tf.float32))
            told = tf.concat([told, [stopping]], axis=0)
            replica = tf.distribute.get_replica_context()
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, told)

        # Without XLA, which compiles no step in which several processes talk.
        @tf.function(reduce_retracing=True)
        def together(*batch_and_stopping):
            told = self._strategy.run(on_replica, args=batch_and_stopping)
            told = self._strategy.experimental_local_results(told)[0]
            sums.assign_add(told[:-1])
            return told[-1] > 0

        def run(iterators: Sequence[Iterator], stopping: bool) -> bool:
            parts = (tf.nest.flatten(next(iterator)) for iterator in iterators)
            batches = zip(*parts, strict=True)
            spread = [self._spread_values(values) for values in batches]
            return bool(together(*spread, tf.constant(float(stopping))))

        return run

    def _spread_values(self, values: Sequence[tf.Tensor]) -> tf.distribute.DistributedValues:
        first = self.parts[0].index
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group - first]
        )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """What the replicas do together is done in here.

        Raises:
            TemporaryError: Another worker is gone: what it had to say will never come.
        """
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
        ) as error:
            if self.workers.count == 1:
                raise
            named = [int(n) for n in re.findall(r"/task:(\d+)", str(error))]
            gone = next((n for n in named if n != self.workers.index), None)
            which = "Another worker" if gone is None else f"Worker {gone}"
            raise TemporaryError(
                f"{which} of {self.workers.count} is gone or cannot be reached: all have to start"
                " anew, and go on from the last checkpoint."
            ) from error


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Copies weights and the states of random numbers between networks of the same kind."""
    for of_source, of_target in zip(source.variables, target.variables, strict=True):
        of_target.assign(of_source.numpy())


class SharedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over the whole batch, of which each replica has a part.

    That of Keras (`synchronized`) adds up three sums that do not depend on each other, so that not
    all replicas come upon their gradients in the same order: they then wait for, or add up, what
    does not belong together. Here one sum follows from the other.
    """

    def _moments(self, inputs, mask):
        mean = self._mean(inputs)
        # No `stop_gradient`, which would change nothing but the order.
        return mean, self._mean(tf.math.squared_difference(inputs, mean))

    def _mean(self, values: tf.Tensor) -> tf.Tensor:
        count = tf.size(values) / tf.shape(values)[self.axis]
        total = tf.reduce_sum(values, self._reduction_axes)
        sums = tf.concat([total, [tf.cast(count, total.dtype)]], axis=0)
        sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
        return sums[:-1] / sums[-1]


def _clone(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, keras.layers.BatchNormalization):
        return SharedBatchNormalization.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())


def open_replicas(workers: Workers) -> Replicas:
    """Connects the devices of the workers; nothing of TensorFlow may have been used before.

    The workers have met. Each uses all its GPUs, of which all have the same number, or its CPU.
    """
    if workers.count > 1:
        return Replicas(_connected(workers), workers)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return Replicas(tf.distribute.MirroredStrategy())
    return Replicas()


def _connected(workers: Workers) -> tf.distribute.Strategy:
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": workers.hosts},
            "task": {"type": "worker", "index": workers.index},
        }
    )

    # By itself TensorFlow waits for an hour, and cannot be interrupted.
    def give_up() -> None:
        echo("vidpipe: The workers met, but cannot connect.", err=True)
        os._exit(EXIT_TEMPORARY)

    limit = threading.Timer(CONNECT_WITHIN_S, give_up)
    limit.daemon = True
    limit.start()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        limit.cancel()
        # TensorFlow has put its own handler in place of ours.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
