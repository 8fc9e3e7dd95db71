"""docs/tutorial.md as it stands: its files, its commands and what they print, from a wheel.

Among the tests of images, which run one after the other, because its ports are those it shows.
What is not as for a reader: every package but repo-builder's own is there already, so that
`pip install` checks what it would bring, and needs no index; and `pins.yaml` names a base image
that is made here, as none can be pulled.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import documents
import pytest
from image_kit import World
from page_settings import copy_checkout
from shell import Shell, shell
from wheel_kit import env, packages

PAGE = documents.ROOT / "docs" / "tutorial.md"
READERS = {"": "skl2onnx", "pytorch": "torch", "keras": "keras", "ultralytics": "torch"}
FIRST, LAST = "repo-builder init digits.onnx", "python app.py"
# What the first hour may take, from the model's file to an application that answers.
COMMANDS = 8
PROCESSOR_S = 180
IMAGE = "digits-edge"  # and the container


def follow(opened: Shell, block: documents.Block, command: str, shown: str) -> str:
    """Run a command of a block; where it does not print what is shown: why."""
    printed = opened.run(command, shown.count("\n"))
    why = documents.difference(shown, printed, block.varies)
    return f"{PAGE}:{block.line}: {command}\n{why}" if why else ""


@pytest.fixture(scope="module")
def installed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The variables of a reader's shell once the package is installed, as the page says, in a
    virtual environment that has all other packages."""
    folder = tmp_path_factory.mktemp("checkout")
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    others = folder / "others"
    others.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for package in Path(place).iterdir():
            # A link in place of the folder itself leaves out the checkout that is installed there.
            if "repo_builder" not in package.name and package.suffix != ".pth":
                (others / package.name).symlink_to(package)
    (packages(environment) / "others.pth").write_text(f"{others}\n")
    checkout = folder / "repo-builder"
    checkout.mkdir()
    copy_checkout(checkout)
    variables = {
        **env(),
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # PyTorch's threads wait busily where other tests run beside
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it the other way round: no isolation
        "PIP_NO_INDEX": "1",
        "REPO_BUILDER_IMAGE_CACHE": world.env["REPO_BUILDER_IMAGE_CACHE"],
    }
    with shell(checkout, variables) as opened:
        wrong = [
            follow(opened, block, *said)
            for block in documents.story(PAGE, "")
            for said in block.dialogue
            if block.folder == "checkout"
        ]
        where = "python -c 'import repo_builder; print(repo_builder.__file__)'"
        assert Path(opened.run(f"cd / && {where}", 1).strip()).is_relative_to(environment)
    assert not any(wrong), "\n\n".join(wrong)
    return variables


@pytest.fixture
def reader(world: World, installed: Mapping[str, str], tmp_path: Path) -> Iterator[Shell]:
    """A shell in a folder with the base image's name alone; no image, no container stays."""
    (tmp_path / "pins.yaml").write_text(f"families: {{cpu: {{base: '{world.base}'}}}}\n")
    online = {name: value for name, value in installed.items() if name != "PIP_NO_INDEX"}
    with shell(tmp_path, {**online, "XDG_CACHE_HOME": str(tmp_path / "cache")}) as opened:
        yield opened
    for container in world.client.containers.list(all=True, filters={"name": f"^/{IMAGE}$"}):
        container.remove(force=True)
    for image in world.client.images.list(IMAGE):
        world.client.images.remove(image.id, force=True)


@pytest.mark.parametrize("framework", READERS, ids=lambda name: name or "scikit-learn")
def test_the_tutorial_works_as_it_is_written(
    framework: str,
    reader: Shell,
    unavailable: Callable[[str], NoReturn],
    record_property: Callable[[str, object], None],
) -> None:
    if importlib.util.find_spec(READERS[framework]) is None:
        unavailable(f"{READERS[framework]} is not installed")
    wrong, typed, begun_s = [], [], 0.0
    for block in documents.story(PAGE, framework):
        if block.title:
            (reader.folder / block.title).write_text(block.text)
        if block.language != "console" or block.folder:
            continue
        for command, shown in block.dialogue:
            if command == FIRST:
                begun_s = reader.processor_s
            wrong.append(follow(reader, block, command, shown))
            if LAST not in typed and (typed or command == FIRST):
                typed.append(command)
                processor_s = reader.processor_s - begun_s
    assert not any(wrong), "\n\n".join(filter(None, wrong))
    record_property("commands", len(typed))
    record_property("processor_s", round(processor_s))
    assert typed[-1] == LAST
    assert len(typed) <= COMMANDS, typed
    assert processor_s <= PROCESSOR_S


@pytest.mark.parametrize("change", ["digits: 0.9 right\n", "digits: 0.968 right\nmore\n", ""])
def test_another_output_is_a_difference(change: str) -> None:
    shown = "digits: 0.968 right\n"
    assert documents.difference(shown, change, r"0\.\d{3}")
    assert not documents.difference(shown, "digits:  0.970 right\n", r"0\.\d{3}")
    assert not documents.difference("...\n" + shown, "one\ntwo\n" + shown, "")


def test_a_block_for_one_reader_stands_in_place_of_the_like(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    told = '```python title="a.py"\n1\n```\n\n'
    told += "<!-- varies: x -->\n```console\n$ python a.py \\\n b\nx\n```\n"
    own = "<!-- for: me -->\n```console\n$ python a.py c\ny\n```\n"
    page.write_text(told + own)
    (file, asked), mine = documents.story(page, ""), documents.story(page, "me")
    assert (asked.dialogue, asked.varies) == ([("python a.py \\\n b", "x\n")], "x")
    assert [block.dialogue for block in mine] == [[], [("python a.py c", "y\n")]]
    assert mine[0] == file
    page.write_text(own)
    with pytest.raises(ValueError, match=r"nothing of the story is like \['python a.py'\] for me"):
        documents.story(page, "me")
