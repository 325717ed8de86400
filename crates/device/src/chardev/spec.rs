//! What `-serial`, `-monitor`, `-qmp` and `-qtest` take, read and opened.
//!
//! Only the spelling and the opening live here; moving bytes is [`super::engine`]'s.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::engine::{Connection, HostBackend, Listener, Source};
use super::{CharBackend, NullBackend};

/// A character back end as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CharSpec {
    /// `none`: no back end at all.
    None,
    /// `null`: drops output, never has input.
    Null,
    /// `stdio`, or `mon:stdio` when it is shared with a monitor.
    Stdio {
        /// Whether a monitor shares it.
        mux: bool,
    },
    /// `file:PATH`: output only; the file is created or truncated.
    File(PathBuf),
    /// `tcp:HOST:PORT[,server[=on|off]][,wait=on|off|,nowait]`.
    Tcp {
        /// Host name or address; empty is every address for a server, localhost for a client.
        host: String,
        /// Port; 0 lets the host choose one for a server.
        port: u16,
        /// Listen instead of connecting.
        server: bool,
        /// A server waits in [`CharSpec::open`] for its first client.
        wait: bool,
    },
    /// `unix:PATH[,server[=on|off]][,wait=on|off|,nowait]`.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Listen instead of connecting.
        server: bool,
        /// A server waits in [`CharSpec::open`] for its first client.
        wait: bool,
    },
    /// `pty`: a new pseudo terminal.
    Pty,
    /// `vc`: a window of QEMU's; there are no windows here, so it drops output.
    Vc,
}

/// A back end that cannot be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum CharError {
    /// Not a back end that there is.
    #[error(
        "Unknown character back end '{0}'; there are none, null, stdio, mon:stdio, file:PATH, tcp:HOST:PORT, unix:PATH, pty and vc"
    )]
    Unknown(String),
    /// A part that is missing or wrong.
    #[error("Character back end '{spec}': {problem}")]
    Malformed {
        /// The text as given.
        spec: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The host refused.
    #[error("Cannot open character back end '{spec}': {source}")]
    Open {
        /// The back end.
        spec: String,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

impl CharSpec {
    /// Reads a back end as QEMU's options spell it.
    ///
    /// # Errors
    /// [`CharError::Unknown`] and [`CharError::Malformed`] name the text and what would be right.
    pub fn parse(text: &str) -> Result<CharSpec, CharError> {
        let bad = |problem: String| CharError::Malformed { spec: text.to_owned(), problem };
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("none", None) => Ok(CharSpec::None),
            ("null", None) => Ok(CharSpec::Null),
            ("stdio", None) => Ok(CharSpec::Stdio { mux: false }),
            ("mon", Some("stdio")) => Ok(CharSpec::Stdio { mux: true }),
            ("pty", None) => Ok(CharSpec::Pty),
            ("vc", _) => Ok(CharSpec::Vc),
            ("file", Some(path)) if !path.is_empty() => Ok(CharSpec::File(path.into())),
            ("file", _) => Err(bad("the path is missing; write file:PATH".to_owned())),
            ("tcp", Some(rest)) => {
                let (address, server, wait) = socket_options(rest).map_err(bad)?;
                let (host, port) =
                    address.rsplit_once(':').ok_or_else(|| bad("write tcp:HOST:PORT".to_owned()))?;
                let port = port.parse().map_err(|_| bad(format!("'{port}' is not a port (0 to 65535)")))?;
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(CharSpec::Tcp { host, port, server, wait })
            }
            ("unix", Some(rest)) => {
                let (path, server, wait) = socket_options(rest).map_err(bad)?;
                if path.is_empty() {
                    return Err(bad("the path is missing; write unix:PATH".to_owned()));
                }
                Ok(CharSpec::Unix { path: path.into(), server, wait })
            }
            ("tcp" | "unix", None) => Err(bad(format!("the address is missing; write {kind}:ADDRESS"))),
            _ => Err(CharError::Unknown(text.to_owned())),
        }
    }

    /// Opens the back end. A server that is to wait blocks here until its first client has connected.
    ///
    /// # Errors
    /// [`CharError::Open`] with the host's reason.
    pub fn open(&self, label: &str) -> Result<Arc<dyn CharBackend>, CharError> {
        self.open_host(label).map_err(|source| CharError::Open { spec: self.to_string(), source })
    }

    fn open_host(&self, label: &str) -> io::Result<Arc<dyn CharBackend>> {
        let source = match self {
            CharSpec::None | CharSpec::Null | CharSpec::Vc => return Ok(Arc::new(NullBackend::new(label))),
            CharSpec::Stdio { .. } => {
                let read = rustix::io::dup(rustix::stdio::stdin())?;
                let write = rustix::io::dup(rustix::stdio::stdout())?;
                Source::fixed("stdio", Connection { read: Some(read), write: Some(write) })
            }
            CharSpec::File(path) => {
                let file = File::create(path)?;
                Source::fixed("file", Connection { read: None, write: Some(file.into()) })
            }
            CharSpec::Pty => pty()?,
            CharSpec::Tcp { host, port, server: true, wait } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let listener = TcpListener::bind((host, *port))?;
                let name = format!("tcp:{}", listener.local_addr()?);
                let first = if *wait { Some(Connection::from_tcp(listener.accept()?.0)?) } else { None };
                listener.set_nonblocking(true)?;
                Source::listening(name, Listener::Tcp(listener), first)
            }
            CharSpec::Tcp { host, port, server: false, .. } => {
                let host = if host.is_empty() { "localhost" } else { host };
                let stream = TcpStream::connect((host, *port))?;
                Source::fixed(format!("tcp:{host}:{port}"), Connection::from_tcp(stream)?)
            }
            CharSpec::Unix { path, server: true, wait } => {
                // A socket file that nobody listens at any more stands in the way of a new one.
                if UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                let name = format!("unix:{}", path.display());
                let first = if *wait { Some(Connection::from_unix(listener.accept()?.0)?) } else { None };
                listener.set_nonblocking(true)?;
                Source::listening(name, Listener::Unix(listener, path.clone()), first)
            }
            CharSpec::Unix { path, server: false, .. } => {
                let stream = UnixStream::connect(path)?;
                Source::fixed(format!("unix:{}", path.display()), Connection::from_unix(stream)?)
            }
        };
        Ok(HostBackend::start(label, source)?)
    }
}

impl std::fmt::Display for CharSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = |server: bool, wait: bool| match (server, wait) {
            (false, _) => "",
            (true, true) => ",server=on",
            (true, false) => ",server=on,wait=off",
        };
        match self {
            CharSpec::None => f.write_str("none"),
            CharSpec::Null => f.write_str("null"),
            CharSpec::Stdio { mux: false } => f.write_str("stdio"),
            CharSpec::Stdio { mux: true } => f.write_str("mon:stdio"),
            CharSpec::File(path) => write!(f, "file:{}", path.display()),
            CharSpec::Tcp { host, port, server, wait } => {
                write!(f, "tcp:{host}:{port}{}", options(*server, *wait))
            }
            CharSpec::Unix { path, server, wait } => {
                write!(f, "unix:{}{}", path.display(), options(*server, *wait))
            }
            CharSpec::Pty => f.write_str("pty"),
            CharSpec::Vc => f.write_str("vc"),
        }
    }
}

/// Splits `ADDRESS[,option…]`; a server waits unless told not to.
fn socket_options(text: &str) -> Result<(&str, bool, bool), String> {
    let mut parts = text.split(',');
    let address = parts.next().unwrap_or_default();
    let (mut server, mut wait) = (false, true);
    for option in parts {
        match option {
            "server" | "server=on" => server = true,
            "server=off" => server = false,
            "wait" | "wait=on" => wait = true,
            "nowait" | "wait=off" => wait = false,
            "nodelay" | "nodelay=on" | "nodelay=off" => {}
            other => {
                return Err(format!("unknown option '{other}'; there are server=on|off and wait=on|off"));
            }
        }
    }
    Ok((address, server, wait))
}

/// Opens a pseudo terminal in raw mode.
fn pty() -> io::Result<Source> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    // Raw mode is set on the slave side; closing it again leaves the mode in place.
    let slave: OwnedFd = OpenOptions::new().read(true).write(true).open(&name)?.into();
    let mut mode = tcgetattr(&slave)?;
    mode.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &mode)?;
    drop(slave);
    Ok(Source::pty(name, Connection { read: Some(rustix::io::dup(&master)?), write: Some(master) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_as_qemu_spells_them() {
        let tcp = |server, wait| CharSpec::Tcp { host: "127.0.0.1".into(), port: 4444, server, wait };
        for (text, spec) in [
            ("none", CharSpec::None),
            ("stdio", CharSpec::Stdio { mux: false }),
            ("mon:stdio", CharSpec::Stdio { mux: true }),
            ("file:/tmp/a:b", CharSpec::File("/tmp/a:b".into())),
            ("tcp:127.0.0.1:4444", tcp(false, true)),
            ("tcp:127.0.0.1:4444,server", tcp(true, true)),
            ("tcp:127.0.0.1:4444,server,nowait", tcp(true, false)),
            ("tcp:127.0.0.1:4444,server=on,wait=off", tcp(true, false)),
            ("unix:/a,server", CharSpec::Unix { path: "/a".into(), server: true, wait: true }),
            ("pty", CharSpec::Pty),
            ("vc:80Cx24C", CharSpec::Vc),
        ] {
            assert_eq!(CharSpec::parse(text).unwrap(), spec, "{text}");
        }
        assert_eq!(
            CharSpec::parse("tcp:127.0.0.1:4444,server,nowait").unwrap().to_string(),
            "tcp:127.0.0.1:4444,server=on,wait=off"
        );
    }

    #[test]
    fn bad_specs_say_what_would_be_right() {
        for (text, part) in [
            ("stdiox", "there are none, null"),
            ("file:", "file:PATH"),
            ("tcp:localhost", "tcp:HOST:PORT"),
            ("tcp:localhost:99999", "'99999'"),
            ("tcp", "ADDRESS"),
            ("unix:", "unix:PATH"),
            ("tcp:h:1,sever", "'sever'"),
        ] {
            let error = CharSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_open_error() {
        let spec = CharSpec::File("/nonexistent-folder/x".into());
        let error = spec.open("serial0").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("file:/nonexistent-folder/x"), "{error}");
    }
}
