"""The images, each run as Kubernetes runs it where Pod Security is `restricted`.

They are those of `make images`: of `VIDPIPE_IMAGES_TAG`, or of the tag that it gives by itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import stage
from tests.servers import config_file

CHECKOUT = Path(__file__).resolve().parent.parent.parent
RESTRICTED = (
    *("--read-only", "--user", "10001", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--tmpfs", "/scratch:mode=1777"),
)

pytestmark = pytest.mark.images


def _tools_images():
    spec = importlib.util.spec_from_file_location("images", CHECKOUT / "tools" / "images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _image(target: str) -> str:
    tools = _tools_images()
    if trouble := tools.docker_trouble():
        pytest.skip(trouble)
    image = tools.image_name(target, os.environ.get("VIDPIPE_IMAGES_TAG") or tools.default_tag())
    command = ["docker", "image", "inspect", image]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"there is no image {image}: `make images` builds it")
    return image


@pytest.fixture(scope="module")
def airflow() -> str:
    return _image("airflow")


@pytest.fixture(scope="module")
def worker() -> str:
    return _image("worker")


@pytest.fixture(scope="module")
def worker_gpu() -> str:
    return _image("worker-gpu")


@pytest.fixture(params=["airflow", "worker", "worker_gpu"])
def image(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """What a command in a container says; it must succeed."""
    entry, *arguments = command
    done = subprocess.run(
        ["docker", "run", "--rm", *RESTRICTED, *options, "--entrypoint", entry, image, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(image: str, code: str) -> str:
    """What Python code in a container prints."""
    return run(image, "python", "-c", code)


def test_nothing_is_root_or_writable_outside_scratch(image):
    # /proc and /dev are the container runtime's own.
    code = (
        "import os\n"
        "print(os.getuid(), *sorted({\n"
        "    folder for folder, names, _ in os.walk('/')\n"
        "    if not folder.startswith(('/proc', '/sys', '/dev')) and os.access(folder, os.W_OK)\n"
        "}))"
    )
    assert python(image, code).split() == ["10001", "/scratch"]


def test_files_are_not_the_users_own(image):
    # Also without --read-only code cannot be changed by what runs it.
    code = (
        "import os\n"
        "print(*(\n"
        "    path for top in ('/opt', '/usr') for folder, names, files in os.walk(top)\n"
        "    for path in (os.path.join(folder, name) for name in files)\n"
        "    if not os.path.islink(path) and os.stat(path).st_uid == 10001\n"
        "))"
    )
    assert python(image, code).split() == []


def test_it_says_what_it_is(image):
    inspected = subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, check=True
    ).stdout
    config = json.loads(inspected)[0]["Config"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert config["User"] == "10001"
    assert labels["title"] == image.partition(":")[0]
    assert labels["description"] and labels["revision"]
    said = python(image, "from vidpipe.version import code_version; print(code_version())")
    assert said.strip() == labels["version"]


def test_the_gpu_worker_is_made_for_gpus(worker_gpu):
    code = "import tensorflow as tf; print(tf.test.is_built_with_cuda(), tf.reduce_sum([1., 2.]))"
    assert python(worker_gpu, code).startswith("True tf.Tensor(3.0")


def test_airflow_answers(airflow):
    assert run(airflow, "airflow", "version").startswith("3.")


def test_dags_are_read_without_errors_and_without_tensorflow(airflow):
    found = json.loads(
        python(
            airflow,
            "import importlib.util, json, sys, logging\n"
            "logging.disable()\n"
            "from airflow.dag_processing.dagbag import DagBag\n"
            "bag = DagBag()\n"
            "names = ('tensorflow', 'keras', 'mlflow')\n"
            "installed = [name for name in names if importlib.util.find_spec(name)]\n"
            "print(json.dumps([sorted(bag.dags), bag.import_errors, installed]))",
        ).splitlines()[-1]
    )
    dags = sorted(path.stem for path in (CHECKOUT / "dags").glob("*.py"))
    assert found == [dags, {}, []]


def test_plugins_are_loaded(airflow):
    assert "vidpipe" in run(airflow, "airflow", "plugins", "--output", "json")


def test_vidpipe_answers(worker):
    assert "vidpipe" in run(worker, "vidpipe", "--version")


def test_people_query_without_the_stack_of_one_machine(worker):
    python(worker, "from vidpipe import cli; cli._require_parts('s3', 'mlflow')")


def test_a_clip_is_extracted(worker):
    # The image's own ffmpeg makes the clip.
    said = run(
        worker,
        "sh",
        "-ec",
        'ffmpeg=$(python -c "import imageio_ffmpeg as f; print(f.get_ffmpeg_exe())")\n'
        '"$ffmpeg" -v error -f lavfi -i testsrc=duration=2:size=128x96:rate=10 clip.mp4\n'
        "vidpipe extract clip.mp4 --output frames --fps 2 >&2\n"
        'python -c "import pyarrow.dataset as d; '
        "print(d.dataset('frames/frames', format='parquet').count_rows())\"",
    )
    assert int(said.splitlines()[-1]) == 4


def test_a_model_predicts(worker):
    code = (
        "import keras, numpy\n"
        "model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])\n"
        "print(keras.backend.backend(), model.predict(numpy.ones((3, 4)), verbose=0).shape)"
    )
    assert python(worker, code).split("\n")[-2] == "tensorflow (3, 2)"


def test_the_mlflow_server_has_its_logins(worker):
    assert "basic-auth" in run(worker, "mlflow", "server", "--help")
    python(worker, "import flask_wtf, psycopg2")


@pytest.fixture
def stage_in_container(worker, lake, tmp_path) -> Iterator:
    """Starts `vidpipe …` as process 1 of a container that has a lake; returns its name."""
    config = config_file(lake, tmp_path / "vidpipe.toml")
    config.chmod(0o644)
    name = f"vidpipe-test-{secrets.token_hex(4)}"

    def start(*arguments: str) -> str:
        where = ("--network", "host", "--volume", f"{config}:/etc/vidpipe/vidpipe.toml:ro")
        environment = (
            *("--env", "VIDPIPE_CONFIG=/etc/vidpipe/vidpipe.toml"),
            # Of the tables it only reads what is forgotten: nothing.
            *("--env", "VIDPIPE_LAKE_CATALOG_URI=sqlite:////scratch/catalog.db"),
        )
        command = ["docker", "run", "--detach", "--name", name, *RESTRICTED, *where, *environment]
        subprocess.run([*command, worker, *arguments], check=True, capture_output=True)
        return name

    yield start
    subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def exit_code(name: str) -> int:
    return int(docker("wait", name))


@pytest.fixture
def shard(lake) -> str:
    """A shard of one video that takes a while."""
    from vidpipe.media import ffmpeg_path

    clip = subprocess.run(
        [
            *(ffmpeg_path(), "-v", "error", "-f", "lavfi"),
            *("-i", "testsrc2=duration=20:size=640x360:rate=30", "-preset", "ultrafast"),
            *("-f", "matroska", "-"),
        ],
        capture_output=True,
        check=True,
    ).stdout
    lake.store.put("s3://videos/long.mkv", clip)
    return stage(lake, "run", "discover", fps=30.0, short_side=360).result["shards"][0]


def test_as_process_1_a_stage_works_and_reaps_its_decoders(stage_in_container, shard):
    name = stage_in_container("extract", "--shard", shard)
    most, before = 0, set()
    while docker("inspect", "--format", "{{.State.Running}}", name).strip() == "true":
        seen = [line.split() for line in docker("top", name, "-o", "pid,stat,comm").splitlines()]
        most = max(most, len(seen) - 1)
        zombies = {line[0] for line in seen if line[1].startswith("Z")}
        assert not zombies & before  # one that has just ended is waited for in a moment
        before = zombies
        time.sleep(0.5)
    assert exit_code(name) == 0, docker("logs", name)
    assert most > 1  # a decoder ran
    assert "1 done" in docker("logs", name)


def test_as_process_1_a_stage_obeys_sigterm(stage_in_container, shard):
    name = stage_in_container("extract", "--shard", shard)
    while (said := docker("top", name, "-o", "pid,comm")).count("\n") < 3:
        assert "is not running" not in said, docker("logs", name)
        time.sleep(0.1)  # until a decoder runs
    begun = time.monotonic()
    docker("stop", "--time", "25", name)
    assert time.monotonic() - begun < 20
    assert exit_code(name) == 75, docker("logs", name)
    assert "Stopped by a signal" in docker("logs", name)


def test_as_process_1_a_stage_obeys_sigterm_while_it_starts(stage_in_container, shard):
    name = stage_in_container("extract", "--shard", shard)
    time.sleep(0.5)  # it imports
    docker("stop", "--time", "25", name)
    assert exit_code(name) == 75, docker("logs", name)
