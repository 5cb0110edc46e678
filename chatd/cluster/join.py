"""From the settings to the way to the other servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatd.cluster.bus import Access
from chatd.cluster.cluster import Cluster, Observer
from chatd.settings import Cluster as ClusterSettings


def join_cluster(
    settings: ClusterSettings, observer: Observer, fingerprints: Callable[[], Sequence[str]]
) -> Cluster:
    """The way to the other servers that the settings name; nothing is started yet."""
    password, token = settings.nats_password, settings.nats_token
    assert settings.nats_url is not None
    access = Access(
        url=settings.nats_url,
        user=settings.nats_user,
        password=None if password is None else password.get_secret_value(),
        token=None if token is None else token.get_secret_value(),
        nkey_file=settings.nats_nkey_file,
        ca_file=settings.nats_ca_file,
        cert_file=settings.nats_cert_file,
        cert_key_file=settings.nats_cert_key_file,
    )
    return Cluster(access, observer, fingerprints)
