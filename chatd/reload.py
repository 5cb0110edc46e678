"""Settings that change while the server runs: on SIGHUP they are read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chatd.handlers.services import Services
from chatd.keys import KeyFileRefused, KeyRing
from chatd.limits import Buckets
from chatd.logs import Threshold
from chatd.security import Tokens
from chatd.settings import Origins, Settings, SettingsError, fields

_CHANGING: Final = ("limits.", "logging.level", "server.allowed_origins")
"""The keys, or what they start with, that hold at once; all others ask for a restart."""


@dataclass(frozen=True)
class Reloader:
    """Reads the settings and the key file again, and hands them to those who live by them."""

    origins: Origins
    services: Services
    threshold: Threshold
    tokens: Tokens
    sign_ins: Buckets
    failures: Buckets
    sends: Buckets

    def reload(self) -> None:
        """Take over what may change. Where anything is wrong, nothing changes, and the log says
        what."""
        log, old = self.services.log, self.services.settings
        try:
            read = self.origins.load()
            keys = _keys(old.key_path)
        except (SettingsError, KeyFileRefused, OSError) as error:
            log.error("settings.refused", problems=str(error).splitlines())
            return
        new = _merged(old, read)
        changed = _differing(old, new)
        self.services.state.settings = new
        self.tokens.use(keys)
        self._limit(new)
        log.info("settings.reloaded", changed=changed, signing_key=keys.signing_id)
        self.threshold.level = new.logging.level
        if waiting := _differing(new, read):
            log.warning("settings.restart_needed", changed=waiting)

    def _limit(self, settings: Settings) -> None:
        limits, services = settings.limits, self.services
        self.sign_ins.change(limits.sign_in_per_minute / 60, limits.sign_in_per_minute)
        failures = limits.sign_in_failures_per_minute
        self.failures.change(failures / 60, failures)
        self.sends.change(limits.send_per_second, limits.send_burst)
        services.calls.change(limits.call_per_second, limits.call_burst)
        services.flusher.limit_outboxes(limits.outbox_bytes)
        services.replayer.limit = limits.replay
        services.presence.limit = limits.presence
        services.router.text_chars = limits.text_chars


def _keys(path: Path) -> KeyRing:
    # At a start a missing file is made. Here that would sign everybody out.
    if not path.exists():
        raise KeyFileRefused(
            f"The key file {path} is not there: put it back, and send SIGHUP again."
        )
    return KeyRing.open(path)


def _merged(old: Settings, read: Settings) -> Settings:
    """The old settings, with what may change as it was read."""
    sections = {
        name: getattr(old, name).model_copy(
            update={
                key.partition(".")[2]: _value(read, key)
                for key in fields()
                if key.startswith(f"{name}.") and key.startswith(_CHANGING)
            }
        )
        for name in Settings.model_fields
    }
    return old.model_copy(update=sections)


def _differing(one: Settings, other: Settings) -> list[str]:
    return [key for key in fields() if _value(one, key) != _value(other, key)]


def _value(settings: Settings, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(settings, section), name)
