"""nginx's configurations: in front of uvicorn and daphne, and with nchan in it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

MODULES = Path("/usr/lib/nginx/modules")
NCHAN = MODULES / "ngx_nchan_module.so"

# Debian's nginx.conf has `worker_processes auto`, too; more connections than its 768 are needed by
# anybody with a thousand visitors, who take two each behind a proxy.
OUTER = """\
{head}
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes auto;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path nginx-body;
    proxy_temp_path nginx-proxy;
    fastcgi_temp_path nginx-fastcgi;
    uwsgi_temp_path nginx-uwsgi;
    scgi_temp_path nginx-scgi;
{site}
}}
"""

# https://www.uvicorn.org/deployment/#running-behind-nginx: a unix socket, no buffering, these
# headers.  Its section "Supervisor" has a socket for each process, as has
# https://channels.readthedocs.io/en/stable/deploying.html#nginx-supervisor-ubuntu, with the same
# headers and HTTP 1.1 for WebSocket.  nginx goes from one to the next: each has an even share.
PROXY = """\
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" "";
    }}
    upstream site {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_redirect off;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
"""

# https://nchan.io/#getting-started, with the channel's name in the path, as its section "The
# Channel ID" recommends, and the buffer of its example of a publisher; 128 MB of shared memory are
# the default.
PUBLISHER_AND_SUBSCRIBERS = """\
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/sub/(\\w+)$ {{
            nchan_subscriber websocket eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
        }}
        location ~ ^/pub/(\\w+)$ {{
            allow 127.0.0.1;
            deny all;
            nchan_publisher;
            nchan_channel_id $1;
            nchan_message_buffer_length 50;
            nchan_message_timeout 5m;
        }}
    }}
"""


def proxy(port: int, sockets: Sequence[Path]) -> str:
    """A configuration that passes on what comes to a port to unix sockets, in turns."""
    servers = "\n".join(f"        server unix:{path};" for path in sockets)
    return _outer(PROXY.format(port=port, servers=servers))


def nchan(port: int) -> str:
    """A configuration with publishers and subscribers at a port."""
    return _outer(PUBLISHER_AND_SUBSCRIBERS.format(port=port), f"load_module {NCHAN};\n")


# Private


def _outer(site: str, head: str = "") -> str:
    # As root, nginx would hand its workers to another user, who could not enter our folder.
    user = "" if os.geteuid() else f"user {pwd.getpwuid(0).pw_name};"
    return OUTER.format(head=head + user, site=site)
