# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What bash completes for attachctl."""

import argparse

from cliff import complete

#: Does without the package bash-completion, and completes the ids of the
#: attachments of the host that is configured.
_ATTACHMENTS = """
if ! declare -F _get_comp_words_by_ref >/dev/null; then
  _get_comp_words_by_ref()
  {
    cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
    words=("${COMP_WORDS[@]}")
  }
fi
_attachctl_or_attachment()
{
  local word command=""
  _attachctl
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "${word}" in
      cancel|detach|extend|show) command="${word}" ;;
    esac
  done
  if [[ -n "${command}" && "${COMP_WORDS[COMP_CWORD]}" != -* ]]; then
    COMPREPLY=( $(compgen -W "$(attachctl --timeout 2 list --format value \\
      --column attachment_id 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}") )
  fi
  return 0
}
complete -F _attachctl_or_attachment attachctl
"""


class Complete(complete.CompleteCommand):
    """Print a script by which bash completes commands, options and ids.

    attachctl complete >/etc/bash_completion.d/attachctl
    """

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        code = super().take_action(parsed_args)
        if parsed_args.shell == 'bash' and parsed_args.name is None:
            self.app.stdout.write(_ATTACHMENTS)
        return code
