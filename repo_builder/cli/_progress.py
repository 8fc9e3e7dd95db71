"""Tells the console what an executor does, in the words of the user's specs."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base import console
from repo_builder.base.progress import Steps

if TYPE_CHECKING:
    from repo_builder.base.artifact import Entry
    from repo_builder.base.errors import RepoBuilderError
    from repo_builder.plan import Node, Plan


class Progress:
    """Tells the console what the executor does, in the words of the user's specs."""

    def __init__(self, steps: Steps, store: Path) -> None:
        from repo_builder.run.store import Store

        self.steps = steps
        self.store = Store(store)

    def planned(self, plan: Plan) -> None:
        """Remember the plan, whose variants give the steps their names."""
        self.plan = plan

    def counted(self, steps: int) -> None:
        """So many steps are going to run."""
        self.steps.expect(steps)

    def started(self, node: Node) -> None:
        """A step was given to a worker."""
        self.steps.start(node.key, self._label(node), self.store.log(node.key))

    def finished(self, node: Node, entry: Entry) -> None:
        """A step ended well."""
        self.steps.done(node.key, self._label(node))

    def failed(self, node: Node, error: RepoBuilderError) -> None:
        """A step failed."""
        if console.talk.debug:
            traceback.print_exception(error)
        self.steps.fail(node.key, self._label(node), str(error))

    def _label(self, node: Node) -> str:
        users = self.plan.users(node.key)
        steps = {step for user in users for step, key in user.steps.items() if key == node.key}
        step = steps.pop() if len(steps) == 1 else node.step
        if len(users) == 1:
            return f"{users[0].spec.id} {step}"
        names = sorted({user.spec.name for user in users})
        return f"{', '.join(names)} {step}"
