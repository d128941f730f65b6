"""The Lambda bundle: small enough, whole, and without what belongs to one machine."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cloud.cloudformation import load_template
from cloud.deploy import bundle

NOT_ON_LAMBDA = ("amqtt", "nicegui", "yaml", "click", "rich", "cryptography", "cantools", "can")
IMPORT_HANDLERS = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is not on Lambda")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder!r})
for module in {modules!r}:
    loaded = importlib.import_module(module)
    assert loaded.__file__.startswith({folder!r}), loaded.__file__
    assert callable(loaded.handler)
"""
WRITE_PARQUET = """
import sys
sys.path.insert(0, {folder!r})
import pyarrow, pyarrow.parquet
assert pyarrow.__file__.startswith({folder!r}), pyarrow.__file__
table = pyarrow.table({{"lat": [50.1], "at": pyarrow.array([0], pyarrow.timestamp("ms", "UTC"))}})
pyarrow.parquet.write_table(table, {target!r}, compression="zstd")
assert pyarrow.parquet.read_table({target!r}).equals(table)
"""


def python(code, cwd):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_handlers_import_from_the_copy_without_what_belongs_to_one_machine(tmp_path):
    folder = tmp_path / "lambda"
    folder.mkdir()
    bundle.copy_ours(folder)
    assert not list(folder.rglob("__pycache__"))
    assert not (folder / "cloud" / "serve").exists()
    modules = [
        found["Properties"]["Handler"].rpartition(".")[0]
        for found in load_template()["Resources"].values()
        if found["Type"] == "AWS::Serverless::Function"
    ]
    assert len(modules) == 6
    code = IMPORT_HANDLERS.format(blocked=NOT_ON_LAMBDA, folder=str(folder), modules=modules)
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_pyarrow_still_writes_parquet_after_it_was_stripped(tmp_path):
    folder = tmp_path / "lambda"
    site = Path(metadata.distribution("pyarrow").locate_file(""))
    for package in ("pyarrow", "numpy"):
        if (site / package).exists():
            shutil.copytree(site / package, folder / package)
        if (site / f"{package}.libs").exists():
            shutil.copytree(site / f"{package}.libs", folder / f"{package}.libs")
    before = bundle.size_of(folder)
    stripped = bundle.strip(folder)
    assert stripped > 20 * 1024 * 1024
    assert bundle.size_of(folder) == before - stripped
    assert not (folder / "pyarrow" / "include").exists()
    code = WRITE_PARQUET.format(folder=str(folder), target=str(tmp_path / "x.parquet"))
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_bundle_over_the_limit_fails_and_says_what_is_large(tmp_path, monkeypatch, capsys):
    def install(target):
        (target / "huge").mkdir()
        (target / "huge" / "library.so").write_bytes(bytes(2_000_000))

    monkeypatch.setattr(bundle, "install", install)
    monkeypatch.setattr(bundle, "LIMIT_BYTES", 1_000_000)
    target = tmp_path / "lambda"
    (target / "left-over").mkdir(parents=True)
    assert bundle.main(["--target", str(target)]) == 1
    told = capsys.readouterr().out
    assert "huge" in told
    assert "over Lambda's limit" in told
    assert not (target / "left-over").exists()


def test_a_failure_of_pip_is_told_and_no_bundle_is_claimed(tmp_path, monkeypatch, capsys):
    def install(_target):
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(bundle, "install", install)
    assert bundle.main(["--target", str(tmp_path / "lambda")]) == 1
    assert "pip could not install" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["orjson", "pyarrow", "pydantic", "pygeohash", "shapely"])
def test_the_requirements_name_what_the_handlers_use(name):
    lines = bundle.REQUIREMENTS.read_text().splitlines()
    assert any(line.startswith(f"{name}>=") for line in lines)
