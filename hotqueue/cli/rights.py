"""Which commands and keys of Redis each kind of user needs, and the ACL rules that give just those."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from hotqueue import keys, queue_scripts
from hotqueue.connection import Connection

_WAITING, _OF_QUEUE, _OF_ALL = "hotqueue:NAME", "{hotqueue:NAME}:*", "{hotqueue:}:*"
_SENDING = ("push", "send")
_COUNTING = ("stats", "lengths", "allowed")
_LOOKING = ("peek", "held", "dead_page", "dead_find")
_ADMINISTERING = ("clear", "dead_retry")
_IN_PATTERNS = re.compile(r"[*?\[\]\\]")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of user; `optional` maps commands it can do without to what is lacking then."""

    name: str
    scripts: Sequence[str]
    commands: Sequence[str]
    keys: Sequence[str]
    optional: Mapping[str, str] = field(default_factory=dict)

    @property
    def needed(self) -> list[str]:
        """What it cannot do without: its own commands and those in its scripts."""
        return sorted({*self.commands, *_commands_in(self.scripts)})

    def rule(self, queues: Sequence[str]) -> str:
        """Return the command that makes a user with just these rights; no `queues` are all of them."""
        names = [_in_pattern(keys.check_name(queue)) for queue in queues] or ["*"]
        patterns = dict.fromkeys(f"~{key.replace('NAME', name)}" for name in names for key in self.keys)
        commands = (f"+{command}" for command in (*self.needed, *self.optional))
        rights = ("+@connection", "-client", "+eval", "+evalsha", *commands)
        return f"ACL SETUSER hotqueue-{self.name} reset on >PASSWORD {' '.join((*patterns, *rights))}"

    def lacking(self, connection: Connection, queue: str) -> list[str] | None:
        """Return which commands the user of the connection may not run, or may not run on this queue.

        None where the server cannot say. Raises Refused if the user may run no scripts.
        """
        found = []
        for command in (*self.needed, *self.optional):
            may = queue_scripts.allowed(connection, _example(command, keys.key_for_name(queue)))
            if may is None:
                return None
            if not may:
                found.append(command)
        return found


def _in_pattern(name: str) -> str:
    """Return a glob pattern for one name. A space cannot stand in a rule: it becomes any character."""
    return _SPACE.sub("?", _IN_PATTERNS.sub(r"\\\g<0>", name))


def _commands_in(scripts: Iterable[str]) -> set[str]:
    folder = files("hotqueue").joinpath("lua")
    sources = (folder.joinpath(f"{script}.lua").read_text(encoding="utf-8") for script in scripts)
    return {found.lower() for source in sources for found in re.findall(r"redis\.call\('(\w+)'", source)}


def _example(command: str, key: str) -> list[str]:
    name, _, subcommand = command.upper().partition("|")
    return [name, subcommand, "1"] if subcommand else [name, key, key]


def _scripts() -> set[str]:
    return {each.name.removesuffix(".lua") for each in files("hotqueue").joinpath("lua").iterdir()}


_PRODUCER = Role(
    "producer",
    _SENDING,
    ("rpush", "llen"),
    (_WAITING, "{hotqueue:NAME}:delayed", "{hotqueue:NAME}:unique:*"),
)
_READER = Role(
    "reader",
    (*_COUNTING, *_LOOKING),
    ("exists", "hmget", "llen", "sismember", "smembers", "time", "zcard", "zrange"),
    (_WAITING, _OF_QUEUE, _OF_ALL),
    {"info": "hotqueue doctor sees less", "config|get": "hotqueue doctor sees less"},
)
_WORKER = Role(
    "worker",
    sorted(_scripts() - {*_LOOKING, *_ADMINISTERING}),
    ("blmove", "blpop", "hget", "hgetall", "lindex", "llen", "lpop", "lpush", "rpush", "sadd"),
    (_WAITING, _OF_QUEUE, _OF_ALL),
    {
        "client|id": "a wait lasts up to 5 seconds longer when a worker stops",
        "client|unblock": "a wait lasts up to 5 seconds longer when a worker stops",
        "client|tracking": "with more than 8 queues a message may wait half a second for an idle worker",
        "client|info": "late commands of a dead child are cleared up a minute later",
        "client|kill": "late commands of a dead child are cleared up a minute later",
        "config|get": "hotqueue-worker cannot warn of an eviction policy",
        "info": "hotqueue-worker cannot tell a server that is too old",
    },
)
_ADMIN = Role(
    "admin",
    sorted(_scripts()),
    sorted({*_READER.commands, *_WORKER.commands, "del", "set", "zrem"}),
    (_WAITING, _OF_QUEUE, _OF_ALL),
    {**_WORKER.optional, "scan": "hotqueue info lists only what a worker or hotqueue send has used"},
)
ROLES = {role.name: role for role in (_PRODUCER, _WORKER, _READER, _ADMIN)}
