"""What the build adds to the metadata: the README with links that work away from the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute(text: str, repository: str) -> str:
    """Return Markdown whose relative links lead to a repository.

    Args:
        text: The Markdown, with images and links, also as HTML tags.
        repository: The address of the repository, without a slash at its end.
    """
    away = r"(?!https?:|mailto:|#)"
    text = re.sub(rf'(<img src="){away}', rf"\1{repository}/raw/HEAD/", text)
    text = re.sub(rf"(!\[[^\]]*\]\(){away}", rf"\1{repository}/raw/HEAD/", text)
    return re.sub(rf"((?<!!)\[[^\]]*\]\(){away}", rf"\1{repository}/blob/HEAD/", text)


class Readme(MetadataHookInterface):
    """Make the README the description of the distribution, with absolute links."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`; the address is `project.urls.Repository`."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, metadata["urls"]["Repository"]),
        }
