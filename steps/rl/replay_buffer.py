"""The replay buffer (§2.6.2): groups whose rollouts continue in a later iteration, oldest first.

Invariant: a group is in the buffer from its start until it is handed out as done or dropped as stale, and in one place
only.
"""

from dataclasses import dataclass, field

from steps.rl.trajectory import Group, Stop, Trajectory


@dataclass
class ReplayBuffer:
    """Groups in flight."""

    groups: list[Group] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def problem_ids(self) -> set[str]:
        """Problems that are being worked on."""
        return {group.problem.id for group in self.groups}

    def add(self, group: Group) -> None:
        """Take a new group. Raises ValueError if its problem is being worked on."""
        if group.problem.id in self.problem_ids:
            raise ValueError(f"problem {group.problem.id} is in the replay buffer already")
        self.groups.append(group)

    def unfinished(self) -> list[tuple[Group, Trajectory]]:
        """Trajectories to continue, the oldest groups' first."""
        oldest_first = sorted(self.groups, key=lambda group: group.started)
        return [(g, t) for g in oldest_first for t in g.trajectories if not t.done]

    def take_done(self, most: int) -> list[Group]:
        """Remove and return at most `most` of the groups that are done, the oldest first."""
        done = sorted((group for group in self.groups if group.done), key=lambda group: group.started)[:most]
        taken = {group.problem.id for group in done}
        self.groups = [group for group in self.groups if group.problem.id not in taken]
        return done

    def drop_stale(self, iteration: int, bound: int) -> list[Group]:
        """Remove and return the unfinished groups that began more than `bound` iterations ago."""
        stale = [group for group in self.groups if not group.done and iteration - group.started > bound]
        dropped = {group.problem.id for group in stale}
        self.groups = [group for group in self.groups if group.problem.id not in dropped]
        return stale

    def finish_stale(self, iteration: int, bound: int) -> list[tuple[Group, Trajectory]]:
        """End, as they stand, the trajectories of groups that began more than `bound` iterations ago."""
        ended = []
        for group in self.groups:
            if iteration - group.started > bound:
                for trajectory in group.trajectories:
                    if not trajectory.done:
                        trajectory.stop = Stop.STALE
                        ended.append((group, trajectory))
        return ended
