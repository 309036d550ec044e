"""Installs Python peers into a folder of their own, one after the other, and says first what is downloaded.

    python3 install.py FOLDER PACKAGE...
"""

import json
import pathlib
import subprocess
import sys
import urllib.request
import venv


def size(url):
    """The bytes of a file, or None if the server does not tell."""
    if url.startswith("file:"):
        return 0
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def plan(pip, folder, package):
    """What pip would download for a package."""
    report = folder / "plan.json"
    command = [*pip, "install", "--quiet", "--dry-run", "--report", str(report), package]
    subprocess.run(command, check=True)
    wanted = json.loads(report.read_text())["install"]
    report.unlink()
    return [(it["metadata"]["name"], it["metadata"]["version"], it["download_info"]["url"]) for it in wanted]


def install(pip, folder, package):
    wanted = plan(pip, folder, package)
    if not wanted:
        print(f"{package}: already there", flush=True)
        return
    sizes = [size(url) for _, _, url in wanted]
    known = sum(it for it in sizes if it is not None)
    unknown = sum(it is None for it in sizes)
    more = f", and {unknown} of unknown size" if unknown else ""
    name = package.split("[")[0]
    version = next((version for its, version, _ in wanted if its == name), "")
    print(
        f"{name} {version}: {len(wanted)} packages, {known / 1e6:,.0f} MB to download{more}, into {folder}",
        flush=True,
    )
    # The progress of pip is its own. Nothing is kept twice.
    subprocess.run([*pip, "install", "--no-cache-dir", package], check=True)


def main():
    folder, packages = pathlib.Path(sys.argv[1]), sys.argv[2:]
    environment = folder / "venv"
    if not (environment / "pyvenv.cfg").exists():
        venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    failed = []
    for package in packages:
        try:
            install(pip, folder, package)
        except (subprocess.CalledProcessError, OSError) as error:
            failed.append(package)
            print(f"{package}: {error}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"not installed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
