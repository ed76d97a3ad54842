"""The application's side installs alone, and gets in the way of nothing that the application has."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = """
import sys
import migrations, workers
assert migrations.OWNER == workers.OWNER == "the application"
import vecfleet.tenancy
from vecfleet.tenancy import TenantGuard, PineconeDelphiClient
TenantGuard.validate_namespace_access(user_creator_id="a", namespace="creator_a_twin_t")
PineconeDelphiClient()
print(vecfleet.__file__)
tops = {name.split(".")[0] for name in sys.modules}
print(sorted(tops & {"celery", "kombu", "psycopg", "sqlalchemy", "alembic", "redis", "fastapi", "supabase", "pyarrow",
                     "orchestrator", "emulator"}))
"""


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as built from this repository, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site-packages"
    with zipfile.ZipFile(wheel) as archive:  # what `pip install --no-deps --target` does with a wheel of pure Python
        archive.extractall(target)
    return target


def test_the_wheel_holds_the_library_alone(site_packages: Path) -> None:
    assert sorted(path.name for path in site_packages.iterdir() if path.suffix != ".dist-info") == ["vecfleet"]


def test_importing_the_tenancy_needs_no_fleet_and_meets_no_package_of_the_application(
    site_packages: Path, tmp_path: Path
) -> None:
    # Given an application with packages called as the fleet's are
    for name in ("migrations", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('OWNER = "the application"\n')
    # And the library's own dependencies, of which nothing of the fleet may be used
    third_party = sysconfig.get_paths()["purelib"]
    path = [str(tmp_path), str(site_packages), third_party]

    # When it imports the tenancy; no environment, no site hooks, so nothing comes from this repository
    ran = subprocess.run(
        [sys.executable, "-S", "-I", "-c", f"import sys; sys.path[:0] = {path!r}\n{PROBE}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    # Then its own packages are its own, and ours came without the fleet's
    assert ran.returncode == 0, ran.stderr
    where, loaded = ran.stdout.splitlines()
    assert Path(where).is_relative_to(site_packages)
    assert loaded == "[]"
