"""What keeps agents from the folders that are mounted for them; said when one is set, at the start, and by doctor."""

from __future__ import annotations

from pathlib import Path

from host.central.agent_groups import AgentGroup
from host.runtime.mount_access import MountTrouble, trouble_with
from host.runtime.mounts import MountRequest, allowed_mount, read_allow_list
from host.sessions.folder import Owner
from shared_schema.errors import Conflict, DumbwaiterError
from shared_schema.layout import DataLayout


def mount_troubles(group: AgentGroup, layout: DataLayout, owner: Owner) -> list[MountTrouble]:
    """What agents of a group will miss."""
    found = []
    for request in group.mount_requests:
        asked = MountRequest(Path(request["path"]), request["name"], request["writable"])
        try:
            require_useful(asked, layout, owner)
        except DumbwaiterError as error:
            found.append(MountTrouble(f"/mnt/{asked.name} of '{group.name}': {error.what}", error.hint or "unmount it"))
    return found


def require_useful(request: MountRequest, layout: DataLayout, owner: Owner) -> None:
    """Refuse a folder in which agents could not do what is asked for. Raises as `allowed_mount`, and `Conflict`."""
    mount = allowed_mount(request, read_allow_list(layout.mounts))
    if request.writable and not mount.writable:
        raise Conflict(
            f"mounts.toml allows {mount.source} for reading only",
            where=layout.mounts,
            hint="write `writable = true` there, or leave out ':rw'",
        )
    if (trouble := trouble_with(mount, owner.uid, owner.gid)) is not None:
        raise Conflict(trouble.what, hint=trouble.hint)
