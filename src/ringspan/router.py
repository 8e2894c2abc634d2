"""Which route each record belongs to: found once for each service and path, and kept in a bounded table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import contract, fingerprints, redact, target
from ringspan.learned import DEPTH_MAX, Budget, Learner
from ringspan.model import Route, Routes, rows
from ringspan.spans import TARGET_CUT, text

if TYPE_CHECKING:
    from ringspan.model import Identity
    from ringspan.routes import Routing
    from ringspan.templates import Templates

Array = np.ndarray[Any, np.dtype[Any]]
SERVER, EXCHANGE = contract.number("ROLE_SERVER"), contract.number("RECORD_EXCHANGE")
KNOWN_MAX, SERVICES_MAX, ROUTES_MAX = 1 << 16, 1024, 1 << 16
NONE, OVERFLOW = 0, 1  # numbers of no route, and of one that found no room


class Service:
    """The routes of one service."""

    def __init__(self, number: int, given: list[Templates], learner: Learner | None) -> None:
        self.number = number
        self.given = given
        self.learner = learner
        self.used: set[str] = set()  # of those given: a route that nobody asks for takes no room


class Router:
    """Finds routes; `overflowed` counts the records whose route found no room."""

    def __init__(self, routing: Routing, identify: Callable[[Any], Identity]) -> None:
        self._identify = identify
        self._mixer = fingerprints.Mixer()
        self.overflowed = self.forgotten = self._last_service = 0
        self.set_routing(routing)

    def set_routing(self, routing: Routing) -> None:
        """Have other routes from now on; what was learned is forgotten."""
        self._routing = routing
        self._budget = Budget()
        self._services: dict[str, Service] = {}
        self._known: dict[int, int] = {}
        self._failed: dict[int, int] = {}  # what failed before its route, if it has one, was learned
        self._routes: list[Route | None] = [None, None]
        self._numbers: dict[Route, int] = {}

    def __len__(self) -> int:
        """Return how many routes there are."""
        return sum(map(_routes, self._services.values()))

    def of(self, batch: Array) -> Routes | None:
        """Return the routes of a batch; None if there can be none."""
        if not self._routing or not len(batch):
            return None
        out = np.zeros(len(batch), np.int64)
        served = np.flatnonzero((batch["role"] == SERVER) & (batch["kind"] == EXCHANGE) & (batch["target_bytes"] != 0))
        if len(served):
            out[served] = self._of_served(batch if len(served) == len(batch) else batch[served])
        self.overflowed += int((out == OVERFLOW).sum())
        return Routes(out, self._routes.__getitem__)

    def _of_served(self, batch: Array) -> Array:
        services, of_record = self._whose(batch)
        well = (batch["status"] >= 200) & (batch["status"] < 400)
        numbers = np.array([service.number for service in services])[of_record].astype(np.uint64)
        hashes = self._mixer.mix(len(batch), [numbers << np.uint64(1) | well, *fingerprints.paths(batch)])
        each, first, of_group = np.unique(hashes, return_index=True, return_inverse=True)
        found = [
            self._number(one, services[of_record[at]], batch[at], learn=bool(well[at]))
            for one, at in zip(each.tolist(), first.tolist(), strict=True)
        ]
        out: Array = np.array(found)[of_group]
        return out

    def _whose(self, batch: Array) -> tuple[list[Service], Array]:
        """Return the services of a batch, and of each record which it is."""
        columns = [*fingerprints.processes(batch), fingerprints.server_ports(batch)]
        hashes = self._mixer.mix(len(batch), columns)
        _, first, of_record = np.unique(hashes, return_index=True, return_inverse=True)
        names = [self._identify(rows(batch[at : at + 1])[0]).service_name for at in first.tolist()]
        return [self._service(name) for name in names], of_record

    def _service(self, name: str) -> Service:
        known = self._services.get(name)
        if known is None:
            if len(self._services) >= SERVICES_MAX:
                self._forget(next(iter(self._services)))
            learner = Learner(self._budget) if self._routing.learn else None
            self._last_service += 1
            known = Service(self._last_service, self._routing.of_service(name), learner)
            self._services[name] = known
        return known

    def _forget(self, name: str) -> None:
        learner = self._services.pop(name).learner
        if learner:
            learner.give_back()
        self.forgotten += 1

    def _number(self, group: int, service: Service, record: Any, *, learn: bool) -> int:
        known = self._known.get(group, self._failed.get(group))
        if known is not None:
            return known
        learner = service.learner
        before = (learner.merged, learner.routes) if learner else (0, 0)
        number = self._find(service, record, learn=learn)
        merged, learned = (learner.merged, learner.routes) if learner else before
        if merged != before[0] or len(self._known) >= KNOWN_MAX:
            self._known.clear()
        if (merged, learned) != before or len(self._failed) >= KNOWN_MAX:
            self._failed.clear()
        kept = self._failed if learner and number == NONE else self._known
        kept[group] = number
        return number

    def _find(self, service: Service, record: Any, *, learn: bool) -> int:
        """Find a route: given, else learned; of a target that was cut in its path, none."""
        cut = bool(record["truncated"] & TARGET_CUT)
        parts = target.split(text(record["target"].item()), text(record["method"].item()), cut=cut)
        if not parts.path.startswith("/") or (cut and not parts.query):
            return NONE
        room = self._routing.most - _routes(service)
        for templates in service.given:
            template = templates.match(parts.path)
            if template is not None:
                return self._given(service, template, room)
        if not service.learner:
            return NONE
        route = service.learner.find(redact.path(parts.path), max(0, room) if learn else 0)
        if route is None:
            return OVERFLOW if learn and parts.path.count("/") <= DEPTH_MAX else NONE
        return self._numbered(Route(route, learned=True))

    def _given(self, service: Service, template: str, room: int) -> int:
        if template not in service.used and room <= 0:
            return OVERFLOW
        service.used.add(template)
        return self._numbered(Route(template))

    def _numbered(self, route: Route) -> int:
        number = self._numbers.get(route)
        if number is None:
            if len(self._routes) >= ROUTES_MAX:
                return OVERFLOW
            number = self._numbers[route] = len(self._routes)
            self._routes.append(route)
        return number


def _routes(service: Service) -> int:
    return len(service.used) + (service.learner.routes if service.learner else 0)
