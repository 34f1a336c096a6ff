"""nginx's configurations for peers."""

import subprocess
from pathlib import Path

from bench.peers import nginx
from pubsub.devstack.files import find_programs


def test_nginx_takes_the_configuration_in_front_of_two_servers(tmp_path: Path):
    sockets = [tmp_path / "0.sock", tmp_path / "1.sock"]
    text = nginx.proxy(8080, sockets)
    assert [f"server unix:{path};" in text for path in sockets] == [True, True]
    (tmp_path / "nginx.conf").write_text(text, "utf-8")
    program = find_programs({"nginx": "nginx-light"})["nginx"]
    command = [program, "-t", "-e", "stderr", "-p", f"{tmp_path}/", "-c", "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nchan_is_loaded_before_anything_else():
    text = nginx.nchan(8080)
    assert text.startswith(f"load_module {nginx.NCHAN};\n")
    assert "listen 127.0.0.1:8080 " in text
