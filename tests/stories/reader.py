"""Somebody who copies the commands of a page of docs."""

import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent

from tests.stories.launching import REPOSITORY, write_program
from tests.stories.world import World

DOCS = REPOSITORY / "docs"
RECIPES = DOCS / "recipes"
BLOCK_S = 240.0  # takes 5 to 15 s; two cores under a load of twenty need this


class Reader:
    """Somebody with a page before them and a shell where a fleet runs. What is in `JOB` stays there.

    Where a page has `JOB=N`, they write the number that was printed last.
    """

    def __init__(self, world: World, page: str, folder: Path = RECIPES) -> None:
        self._world = world
        text = (folder / f"{page}.md").read_text()
        self._blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
        programs = world.folder / "programs"
        programs.mkdir()
        write_program(programs / "vecfleet")
        self._shell = world.folder / "shell"
        self._planned = "none yet"
        self._environment = {**world.env, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def type_next(self, blocks: int = 1, *, ends_with: int = 0) -> str:
        """Type the next blocks of the page; each but the last ends with exit code 0. What the last one printed."""
        said = ""
        for left in reversed(range(blocks)):
            said = self.type(self._blocks.pop(0), ends_with=0 if left else ends_with)
        return said

    def leave_out(self, blocks: int = 1) -> None:
        """Do not type the next blocks: they start or end what runs here already."""
        del self._blocks[:blocks]

    def type(self, lines: str, *, ends_with: int = 0) -> str:
        """Type what stands on no page. What it printed."""
        if self._shell.exists():
            self._environment["JOB"] = self._shell.read_text()
        lines = lines.replace("JOB=N\n", f"JOB={self._planned}\n")
        keeping = f"trap 'printf %s \"$JOB\" > {self._shell}' EXIT\n"
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", keeping + lines],
            cwd=self._world.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        assert done.returncode == ends_with, f"{lines}\nended with {done.returncode}:\n{done.stdout}"
        for number in re.findall(r"^job (\d+) is planned", done.stdout, re.MULTILINE):
            self._planned = number
        return done.stdout

    def assert_typed_it_all(self) -> None:
        assert self._blocks == []
