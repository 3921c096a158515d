"""The deployed stack: a system that is already running, described by a profile. It is neither started nor stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType

from mlflow_proxy_e2e.errors import BadOptionError, UnreachableError
from mlflow_proxy_e2e.reach import why_unreachable
from mlflow_proxy_e2e.run import Run, state_folder
from mlflow_proxy_e2e.stack import ReadyService
from mlflow_proxy_e2e.sweep import Swept, left_by_dead_runs, sweep, sweep_dead_runs
from mlflow_proxy_e2e.target import Route, Target
from mlflow_proxy_e2e.traffic import TRAFFIC


class DeployedStack:
    """A target that is already running."""

    say: Callable[[str], None] = staticmethod(lambda _: None)
    client: Mapping[str, str] = MappingProxyType({})

    def __init__(self, target: Target) -> None:
        self._target = target
        self._unreachable: Mapping[Route, str] = MappingProxyType({})

    def outline(self) -> Target:
        """Return the target."""
        return self._target

    def start(self) -> Target:
        """Return the target, usable routes first, and give up the other routes."""
        TRAFFIC.limit(self._target, 1)
        self._began = time.monotonic()
        with ThreadPoolExecutor(len(self._routes)) as threads:
            reasons = zip(self._routes, threads.map(self._why_unreachable, self._routes), strict=True)
        self._unreachable = {route: reason for route, reason in reasons if reason}
        routes = sorted(self._target.routes, key=self._unreachable.__contains__)
        for route, reason in self._unreachable.items() if routes[0] not in self._unreachable else ():
            TRAFFIC.given_up[route.url] = f"The route '{route}' to {route.url} cannot be used: {reason}."
        self._target = replace(self._target, routes=tuple(routes))
        return self._target

    def until_ready(self) -> Iterator[ReadyService]:
        """Report each route that can be reached, and remove what earlier runs have left. Raises UnreachableError if none can."""
        self._check_reachable()
        seconds = time.monotonic() - self._began
        yield from (ReadyService(route.name, seconds) for route in self._routes if route not in self._unreachable)
        for reason in TRAFFIC.given_up.values():
            self.say(reason)
        if self._target.who_may("write"):
            with TRAFFIC.uncounted():
                swept = sweep_dead_runs(self._target)
            for line in swept.lines():
                self.say(f"Left by a killed run: {line}")

    def _check_reachable(self) -> None:
        if all(route in self._unreachable for route in self._target.routes):
            lines = (f"  {route.name:<9} {route.url}: {self._unreachable[route]}." for route in self._target.routes)
            raise UnreachableError("\n".join([f"The target '{self._target.name}' cannot be reached:", *lines]))

    @property
    def _routes(self) -> tuple[Route, ...]:
        return (*self._target.routes, *([self._target.direct] if self._target.direct else []))

    def _why_unreachable(self, route: Route) -> str | None:
        return why_unreachable(route, None if route == self._target.direct else self._target.insider)

    def begin(self) -> Run:
        """Begin a run, with a journal if any identity can create something. Raises StateFolderUnusableError."""
        return Run.begin(state_folder(self._target) if self._target.who_may("write") else None)

    def end(self, run: Run) -> Sequence[str]:
        """Remove what tests have not removed, because their worker died or it failed, and what a diagnosis has created."""
        run.end()
        return self.clean_up()

    def clean_up(self) -> Sequence[str]:
        """Remove what the journals of ended runs have, and return what cannot be removed, as lines for people."""
        left = left_by_dead_runs(self._target) if self._target.who_may("write") else ()
        with TRAFFIC.uncounted():
            if left and (reason := why_unreachable(*self._target.truth)):
                return [f"{what}: {reason}" for what in left]
            return sweep_dead_runs(self._target).failed if left else ()

    def sweep(self) -> Swept:
        """Remove what earlier runs have left. Raises UnreachableError, and BadOptionError if no key can write."""
        if not self._target.who_may("write"):
            raise BadOptionError("--sweep needs an identity that is allowed to write: others cannot remove anything.")
        self.start()
        self._check_reachable()
        with TRAFFIC.uncounted():
            return sweep(self._target)

    def logs(self) -> Iterator[tuple[str, str]]:
        """Return no logs: a deployed target's are out of reach."""
        return iter(())

    def keep(self) -> str:
        """Return what the user needs to know: the target outlives every run."""
        return f"  {self._target.name}: it was not started by this run."

    def stop(self) -> None:
        """Do nothing."""
