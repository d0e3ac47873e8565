"""Actions on a run, shared by all screens that show runs.

They are commands, new stages and settings.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable

from textual import work

from mathrl_tui import actions, control
from mathrl_tui.screens.base import ConsoleScreen
from mathrl_tui.screens.confirm import Confirm


class Controls(ConsoleScreen):
    """Actions on the run that a subclass gives as `target`."""

    @property
    @abstractmethod
    def target(self) -> str | None:
        """Return the run that commands go to; None without one."""

    def action_stop(self) -> None:
        """Request that the run stops after its step, with a checkpoint."""
        self._command("stop")

    def action_pause(self) -> None:
        """Pause the run, or continue it."""
        self._command(control.PAUSE)

    def action_checkpoint(self) -> None:
        """Request a checkpoint after the current step."""
        self._command("checkpoint")

    @work(group="control")
    async def action_kill(self) -> None:
        """End the run's processes at once, after a confirmation."""
        if run_id := self.target:
            loss = "Its processes end at once; their work since the last checkpoint is lost."
            sure = await self.app.push_screen_wait(Confirm(f"Kill {run_id}?", loss))
            if sure:
                await self._carry_out(run_id, "kill")

    @work(group="control")
    async def action_resume_run(self) -> None:
        """Start a new supervisor for a stopped, interrupted or failed run."""
        if run_id := self.target:
            await self._show_result(asyncio.to_thread(control.go_on, self.console.home, run_id, ()))

    @work(group="control")
    async def action_add_stages(self) -> None:
        """Start further stages in this run."""
        from mathrl_tui.screens.new_run import ChooseStages

        run_id = self.target
        if run_id and (stages := await self.app.push_screen_wait(ChooseStages(run_id))):
            await self._show_result(asyncio.to_thread(control.go_on, self.console.home, run_id, stages))

    @work(group="control")
    async def action_new_run(self) -> None:
        """Open the form of a new run, start the run and show it."""
        from mathrl_tui.screens.new_run import NewRun

        run_id = await self.app.push_screen_wait(NewRun(self.console.home))
        if run_id:
            self.console.open_run(run_id)

    def action_differences(self) -> None:
        """Show the settings that differ from another run."""
        self.console.action_go(actions.CONFIG)

    @work(group="control")
    async def _command(self, verb: str) -> None:
        if run_id := self.target:
            await self._carry_out(run_id, verb)

    async def _carry_out(self, run_id: str, verb: str) -> None:
        await self._show_result(asyncio.to_thread(control.command, self.console.home, run_id, verb))

    async def _show_result(self, doing: Awaitable[control.RequestResult]) -> None:
        result = await doing
        self.console.show_notice(result.words, "information" if result.done else "error", timeout=6)
        self.read_soon()
