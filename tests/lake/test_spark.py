"""Spark reads the tables through the same catalog, and sees the same rows."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.media_files import cut, make_clip
from tests.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES

pytestmark = pytest.mark.slow

ICEBERG = "1.10.0"
JARS = (
    f"org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:{ICEBERG}",
    f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}",
    "org.xerial:sqlite-jdbc:3.50.3.0",
)


@pytest.fixture(scope="module")
def jars(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Iceberg for Spark, from Maven."""
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("Spark needs java, and mvn to get Iceberg")
    folder = tmp_path_factory.mktemp("jars")
    for name in JARS:
        copy = ["mvn", "-q", "dependency:copy", f"-Dartifact={name}", f"-DoutputDirectory={folder}"]
        ended = subprocess.run(copy, cwd=folder, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"Maven cannot get {name}")
    return ",".join(map(str, folder.glob("*.jar")))


@pytest.fixture
def spark(jars: str, lake: Lake, tmp_path: Path) -> Iterator[Any]:
    """A session as docs/queries.md configures it."""
    sql = pytest.importorskip("pyspark.sql", reason="pip install 'pyspark>=4.0,<4.1'")
    catalog, settings = "spark.sql.catalog.vidpipe", lake.settings
    database = settings.lake.catalog_uri.removeprefix("sqlite:///").partition("?")[0]
    options = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.jars": jars,
        "spark.sql.warehouse.dir": str(tmp_path / "warehouse"),
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "jdbc",
        f"{catalog}.uri": f"jdbc:sqlite:{database}",
        f"{catalog}.warehouse": settings.lake.uri,
        f"{catalog}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        # Of this S3 server.
        f"{catalog}.s3.endpoint": settings.s3.endpoint_url,
        f"{catalog}.s3.path-style-access": "true",
        f"{catalog}.s3.access-key-id": ACCESS_KEY_ID,
        f"{catalog}.s3.secret-access-key": SECRET_ACCESS_KEY,
        f"{catalog}.client.region": settings.s3.region,
    }
    builder = sql.SparkSession.builder
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def test_spark_sees_the_same_rows(spark: Any, lake: Lake, tmp_path: Path):
    for number in range(3):
        clip = make_clip(tmp_path / f"{number}.mp4", tone_hz=300 + 100 * number)
        lake.store.upload(clip, f"s3://videos/spark/{clip.name}")
    lake.store.upload(cut(clip, tmp_path / "cut.mp4", 0.3), "s3://videos/spark/cut.mp4")
    runs.ingest(lake, "one", prefix="spark/")

    for table in ("sources", "videos", "frames", "audio", "outcomes"):
        ours = lake.dataset(table).to_table()
        theirs = spark.table(f"vidpipe.vidpipe.{table}").toArrow()
        assert set(theirs.column_names) == set(ours.column_names)
        order = [(name, "ascending") for name in TABLES[table].key]
        columns = ours.column_names
        expected = ours.sort_by(order).to_pylist()
        assert theirs.select(columns).sort_by(order).to_pylist() == expected
        assert expected

    (newest,) = spark.sql(
        "select snapshot_id, summary['vidpipe.snapshots'] as others"
        " from vidpipe.vidpipe.outcomes.snapshots where summary['vidpipe.snapshots'] is not null"
        " order by committed_at desc limit 1"
    ).collect()
    others = json.loads(newest["others"])
    assert lake.published() == {**others, "outcomes": newest["snapshot_id"]}
    counted = spark.sql(
        f"select count(*) from vidpipe.vidpipe.frames version as of {others['frames']}"
    )
    assert counted.collect()[0][0] == lake.dataset("frames").count_rows()
