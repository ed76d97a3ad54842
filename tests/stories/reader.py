"""Somebody who copies the commands of a page of docs/recipes."""

import os
import re
import subprocess
from textwrap import dedent

from tests.stories.launching import REPOSITORY, write_program
from tests.stories.world import World

RECIPES = REPOSITORY / "docs" / "recipes"
BLOCK_S = 240.0  # takes 5 to 15 s; two cores under a load of twenty need this


class Reader:
    """Somebody with a page before them and a shell where a fleet runs."""

    def __init__(self, world: World, page: str) -> None:
        self._world = world
        text = (RECIPES / f"{page}.md").read_text()
        self._blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
        programs = world.folder / "programs"
        programs.mkdir()
        write_program(programs / "vecfleet")
        self._printed = "none yet"
        self._environment = {**world.env, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def type_next(self, blocks: int = 1, *, ends_with: int = 0) -> str:
        """Type the next blocks of the page; each but the last ends with exit code 0. What the last one printed."""
        said = ""
        for left in reversed(range(blocks)):
            said = self.type(self._blocks.pop(0), ends_with=0 if left else ends_with)
        return said

    def type(self, lines: str, *, ends_with: int = 0) -> str:
        """Type what stands on no page. What it printed."""
        if "JOB=" in lines:
            self._environment["JOB"] = self._printed
            lines = re.sub(r"^JOB=\d+\n", "", lines, flags=re.MULTILINE)
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", lines],
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
            self._printed = number
        return done.stdout

    def assert_typed_it_all(self) -> None:
        assert self._blocks == []
