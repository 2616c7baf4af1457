"""``goctconv completion``: scripts by which shells complete commands, options and their values."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from ._command import Command, actions_of
from ._output import tell

_DESCRIPTION = """\
Print a script by which a shell completes commands, options, networks and files. It is the same until goctconv changes,
so that no completion has to start Python."""

_EXAMPLES = """\
examples:
  goctconv completion bash >~/.local/share/bash-completion/completions/goctconv
  goctconv completion zsh >~/.zfunc/_goctconv
  goctconv completion fish >~/.config/fish/completions/goctconv.fish

For zsh, ~/.zfunc has to be in fpath before compinit runs, in ~/.zshrc:
  fpath+=~/.zfunc; autoload -U compinit; compinit"""

_SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class _Value:
    """An option that takes a value, of which the choices are known or are files."""

    flags: list[str]
    choices: list[str]
    help: str


@dataclass(frozen=True)
class _Completed:
    """What one command completes."""

    name: str
    summary: str
    switches: list[_Value]  # without a value
    values: list[_Value]
    words: list[str]  # of the positional argument; files if there are none

    @property
    def flags(self) -> list[str]:
        """All options."""
        return [flag for option in (*self.switches, *self.values) for flag in option.flags]


def _run(args: argparse.Namespace) -> int:
    """Print the script, and return the exit status."""
    from ..models import list_models  # noqa: PLC0415  (timm loads slowly, and --help does not need it)
    from ._main import COMMANDS, Parser, load_command  # noqa: PLC0415  (it imports this module)

    found = []
    for name, summary in COMMANDS.items():
        parser = Parser(prog=f"goctconv {name}", allow_abbrev=False)
        load_command(name).add_arguments(parser)
        found.append(_completed(name, summary, parser, list_models()))
    write: dict[str, Callable[[list[_Completed]], list[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    tell("\n".join(write[args.shell](found)))
    return 0


def _completed(name: str, summary: str, parser: argparse.ArgumentParser, models: list[str]) -> _Completed:
    switches, values, words = list[_Value](), list[_Value](), list[str]()
    for action in actions_of(parser):
        known = models if action.dest in {"model", "models", "student", "teacher"} else []
        choices = [str(choice) for choice in action.choices or known]
        option = _Value(list(action.option_strings), choices, _first_words(action))
        if not action.option_strings:
            words = choices
        elif action.nargs == 0:
            switches.append(option)
        else:
            values.append(option)
    return _Completed(name, summary, switches, values, words)


def _first_words(action: argparse.Action) -> str:
    text = (action.help or "").partition(" (default")[0].partition(";")[0].replace("%%", "%")
    return text if action.help is not argparse.SUPPRESS and "%(" not in text else ""


def _of_values(commands: list[_Completed]) -> list[tuple[str, list[str]]]:
    """Return a pattern of "command option" for each option with a value, and its choices."""
    return [
        ("|".join(f'"{command.name} {flag}"' for flag in option.flags), option.choices)
        for command in commands
        for option in command.values
    ]


def _bash(commands: list[_Completed]) -> list[str]:
    names = [command.name for command in commands]
    return [
        "# goctconv completion bash",
        "_goctconv() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" word words=""',
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'    case "$word" in {"|".join(names)}) command="$word"; break;; esac',
        "  done",
        "  COMPREPLY=()",
        '  case "$command $before" in',
        *(f"    {pattern}) {_reply(choices)}return;;" for pattern, choices in _of_values(commands)),
        "  esac",
        '  case "$command $current" in',
        *(f'    "{command.name} -"*) words="{" ".join(command.flags)}";;' for command in commands),
        *(f'    "{command.name} "*) words="{" ".join(command.words)}";;' for command in commands),
        f'    " "*) words="{" ".join(names)} --help --version";;',
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _goctconv goctconv  # files where nothing else fits",
    ]


def _reply(choices: list[str]) -> str:
    return f'COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$current")); ' if choices else ""


def _zsh(commands: list[_Completed]) -> list[str]:
    names = [command.name for command in commands]
    return [
        "#compdef goctconv",
        "_goctconv() {",
        '  local command="" word',
        "  for word in ${words[2,CURRENT-1]}; do",
        f"    case $word in ({'|'.join(names)}) command=$word; break;; esac",
        "  done",
        '  case "$command ${words[CURRENT-1]}" in',
        *(f"    ({pattern}) {_added(choices)}_files; return;;" for pattern, choices in _of_values(commands)),
        "  esac",
        '  case "$command ${words[CURRENT]}" in',
        *(f'    ("{command.name} -"*) compadd -- {" ".join(command.flags)};;' for command in commands),
        *(f'    ("{command.name} "*) {_added(command.words)}_files;;' for command in commands),
        f'    (" "*) compadd -- {" ".join(names)} --help --version;;',
        "  esac",
        "}",
        "compdef _goctconv goctconv",
    ]


def _added(choices: list[str]) -> str:
    return f"compadd -- {' '.join(choices)}; " if choices else ""


def _fish(commands: list[_Completed]) -> list[str]:
    lines = ["# goctconv completion fish", "complete -c goctconv -n __fish_use_subcommand -f -l help -s h"]
    lines.append("complete -c goctconv -n __fish_use_subcommand -f -l version")
    for command in commands:
        lines.append(
            f"complete -c goctconv -n __fish_use_subcommand -f -a {command.name} -d {_quoted(command.summary)}"
        )
        start = f"complete -c goctconv -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"{start} -a {_quoted(' '.join(command.words))}")
        for option in (*command.switches, *command.values):
            flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            takes = "" if option in command.switches else " -r"
            takes += f" -f -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            about = f" -d {_quoted(option.help)}" if option.help else ""
            lines.append(f"{start} {flags}{takes}{about}")
    return lines


def _quoted(text: str) -> str:
    """Quote a text for fish, in which a backslash escapes quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" if shlex.quote(text) != text else text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="which shell reads the script")


COMPLETION = Command(
    name="completion", description=_DESCRIPTION, examples=_EXAMPLES, add_arguments=_add_arguments, run=_run
)
