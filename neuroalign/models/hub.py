"""The hub: the local cache first, then one short try, then a message that says how to work offline."""

from pathlib import Path

from neuroalign.errors import NeuroalignError

__all__ = ["HubUnreachable", "fetch_repository"]

SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
FORMATS = ("*.safetensors", "*.bin")  # the first that a repository has is taken
TIMEOUT = 5.0  # seconds


class HubUnreachable(NeuroalignError, ConnectionError):
    """The hub cannot be reached and the model is not in its local cache."""


def fetch_repository(repository: str, revision: str | None = None) -> tuple[Path, str]:
    """Return the local folder of a hub repository, and its commit.

    A copy in the local cache is used as it is; otherwise the repository is downloaded: settings and weights in
    safetensors where it has them, never code.

    Raises
    ------
    HubUnreachable
        It is not in the cache and the hub does not answer; says how to work offline.
    ValueError
        The hub has no such repository or revision, or wants a login.
    """
    folder = _cached(repository, revision)
    if folder is None:
        folder = _download(repository, revision)
    return folder, folder.name


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ValueError(f"model {repository!r}: not the name of a hub repository ('org/name'). {error}") from None
    weights = [f for pattern in FORMATS for f in folder.glob(pattern) if f.exists()]
    return folder if weights and (folder / "config.json").exists() else None


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise HubUnreachable(_offline(repository, "HF_HUB_OFFLINE is set"))
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT)
        names = [s.rfilename for s in info.siblings or ()]
        wanted = next((f for f in FORMATS if any(Path(n).match(f) and "/" not in n for n in names)), FORMATS[0])
        return Path(snapshot_download(repository, revision=info.sha, allow_patterns=[*SETTINGS, wanted]))
    except GatedRepoError:
        raise ValueError(
            f"model {repository!r}: the hub wants a login for it. Accept its terms there, then run: hf auth login"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(f"model {repository!r}: the hub has no such repository{at}, or it is private.") from None
    except Exception as error:
        if not _is_connection(error):
            raise
        raise HubUnreachable(_offline(repository, f"{type(error).__name__}: {error}")) from None


def _is_connection(error: Exception) -> bool:
    # The hub client raises errors of its HTTP library, which is not a dependency of ours to import.
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "Timeout", "HfHubHTTPError", "LocalEntryNotFoundError"})


def _offline(repository: str, reason: str) -> str:
    return (
        f"model {repository!r}: the hub cannot be reached ({reason}) and the model is not in the local cache. "
        f"To work offline: on a machine with network run 'hf download {repository} --local-dir FOLDER', copy FOLDER "
        "here and give its path as the model; or use a model that a package carries ('neuroalign zoo list')."
    )
