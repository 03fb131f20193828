"""What of the package depends on the environment: where the project is published, and its codecs.

The address of the repository is in the environment variable VQCODEC_URL when a release is built
(docs/releasing.md); the README's links and pictures, which are relative in a clone, then lead
there, since a package index has nothing to resolve them by.

VQCODEC_CODECS has the names of the codecs that a wheel carries, with commas, for an installation
that is to be small; without it, it carries all, and the recipes for training.
"""

import os
import re
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Published(MetadataHookInterface):
    """Fills in 'readme' and 'urls'."""

    def update(self, metadata: dict) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        url = os.environ.get("VQCODEC_URL", "").rstrip("/")
        if url:
            tag = f"v{metadata['version']}"
            text = absolute(text, url, tag)
            metadata["urls"] = {
                "Homepage": url,
                "Documentation": f"{url}/tree/{tag}/docs",
                "Changelog": f"{url}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class Codecs(BuildHookInterface):
    """Puts codecs and recipes, which stand at the top of the repository, into the package."""

    def initialize(self, version: str, build_data: dict) -> None:
        names = os.environ.get("VQCODEC_CODECS", "")
        chosen = ["models", "recipes"]
        if names:
            chosen = [f"models/{name.strip()}" for name in names.split(",")]
        for path in chosen:
            if not Path(self.root, path).is_dir():
                raise ValueError(f"VQCODEC_CODECS: there is no folder {path}")
            build_data["force_include"][path] = f"vqcodec/{path}"


def absolute(text: str, url: str, tag: str) -> str:
    """Markdown whose relative links and pictures lead to a tag of the repository at ``url``."""

    def link(match: re.Match[str]) -> str:
        bang, label, target = match.groups()
        kind = "raw" if bang else "blob"
        return f"{bang}[{label}]({url}/{kind}/{tag}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", link, text)
