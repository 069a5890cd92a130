//! The mock controller as a program: options, signals, one line when it listens.

mod log;
mod signals;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use atoll_dataplane::HostToPodPool;
use atoll_mock_controller::access::{Access, read_token};
use atoll_mock_controller::check::check;
use atoll_mock_controller::plane;
use atoll_mock_controller::server::MockServer;
use atoll_mock_controller::socket::MockSocket;
use atoll_mock_controller::{Activation, BASE_PATH, Dialect, MockController, MockSettings, StateFile, User};
use atoll_model::error::ExhaustedResource;
use atoll_model::secret::Secret;
use atoll_node::files::{CONFIG, make, print, read, trouble};
use clap::{Parser, Subcommand};
use ipnetwork::Ipv4Network;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::signals::Signals;

const EXAMPLES: &str = "Examples:
  mock-controller                                       serve the 5.x dialect on 127.0.0.1:8181
  mock-controller --listen 127.0.0.1:0 --dialect 1.9    any free port; the line on standard error names it
  mock-controller --activation 200                      bound ports become active after 200 ms
  mock-controller --dataplane --run-dir /run/atoll      make packets flow on this machine (root)
  mock-controller dataplane probe                       whether this machine can do that (root)
  mock-controller dataplane purge --run-dir /run/atoll  remove every trace of that
  mock-controller dataplane check --topology mock.json  what a state file or a dump would become (no root)
  mock-controller --state /var/lib/atoll/mock.json      keep the objects across restarts
  curl -H 'Accept: application/json' http://127.0.0.1:8181/midonet-api/routers
  curl http://127.0.0.1:8181/mock/                      what only this controller has
  mock-controller --dataplane --mock-socket /run/atoll/mock.sock --mock-tcp off
  curl --unix-socket /run/atoll/mock.sock http://localhost/mock/dump
                                                        the same, for root only and by no other way

Without --users anybody logs in as admin with password admin, and requests without a token are taken for the
admin's, as in MidoNet's own mock authentication. Do not put it where others can reach it.

What is below /mock/ is answered on TCP to every client that can connect; with --dataplane to root's processes on loopback,
unless --mock-tcp or --mock-token-file says something else. The socket of --mock-socket answers in any case.";

/// A controller that speaks the MidoNet REST API, in memory.
#[derive(Debug, Parser)]
#[command(name = "mock-controller", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address and port to serve on; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8181")]
    listen: SocketAddr,
    /// Dialect of the API: 5 or 1.9.
    #[arg(long, default_value = "5")]
    dialect: Dialect,
    /// Id of the host it starts with.
    #[arg(long)]
    host_id: Option<Uuid>,
    /// Name of that host.
    #[arg(long, default_value = "localhost")]
    host_name: String,
    /// Address of that host in the tunnel zone.
    #[arg(long, default_value = "127.0.0.1")]
    host_address: Ipv4Addr,
    /// Users as JSON: {"name": {"password": "..", "admin": true}}.
    #[arg(long)]
    users: Option<PathBuf>,
    /// Refuse requests without a token.
    #[arg(long)]
    strict_tokens: bool,
    /// When a bound port becomes active: at-once, never, or a number of milliseconds.
    #[arg(long, default_value = "at-once", value_parser = parse_activation)]
    activation: Activation,
    /// Base of Location and links, whatever the request says.
    #[arg(long)]
    base_uri: Option<String>,
    /// Show the key `type` of ports and rules twice, as the real server very probably does.
    #[arg(long)]
    duplicate_type: bool,
    /// File that keeps the objects across restarts.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Unix socket (mode 0600) that answers /mock/.
    #[arg(long)]
    mock_socket: Option<PathBuf>,
    /// Who may use /mock/ over TCP: anyone, root (its processes on loopback) or off. Default: anyone; with --dataplane root.
    #[arg(long, value_parser = parse_access, conflicts_with = "mock_token_file")]
    mock_tcp: Option<Access>,
    /// File (mode 0600) with the token that /mock/ over TCP requires in the header X-Mock-Token.
    #[arg(long)]
    mock_token_file: Option<PathBuf>,
    /// Realise the topology in this machine's kernel.
    #[arg(long)]
    dataplane: bool,
    /// Where the data plane pins its namespaces, below `dataplane`.
    #[arg(long, default_value = RUN_DIR)]
    run_dir: PathBuf,
    /// Pool of the addresses by which this machine reaches its pods, the cluster's `nodeSideCidr`; `none`: it does not
    /// reach them.
    #[arg(long, default_value = "169.254.128.0/17", value_parser = parse_host_to_pod)]
    node_side_cidr: HostToPod,
    /// Addresses of services, the cluster's `serviceCidr`: nothing for them leaves by an uplink, and nothing that was sent
    /// to one is forwarded to a pod.
    #[arg(long, requires = "dataplane")]
    service_cidr: Option<Ipv4Network>,
    /// Remove every trace of the data plane at the end; without it packets keep flowing.
    #[arg(long, requires = "dataplane")]
    purge_on_exit: bool,
}

/// The format of a file of users.
const USERS: &str = r#"{"name": {"password": "..", "admin": true}}, where admin may be left out,"#;

const RUN_DIR: &str = "/run/atoll";

#[derive(Debug, Subcommand)]
enum Command {
    /// Manages the data plane of this machine.
    Dataplane {
        #[command(subcommand)]
        verb: DataplaneVerb,
    },
}

#[derive(Debug, Subcommand)]
enum DataplaneVerb {
    /// Shows what a topology would become: router namespaces, filters, and what cannot be expressed. Needs no root, changes
    /// nothing. Exit code 3: a part is closed because it cannot be expressed.
    Check {
        /// A state file, or what `GET /mock/dump` answered.
        #[arg(long)]
        topology: PathBuf,
        /// The host whose bindings count; needed where there are several.
        #[arg(long)]
        host_id: Option<Uuid>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what this machine lacks to carry a data plane. Changes nothing, needs root. Exit code 3: it cannot.
    Probe,
    /// Removes every trace of a data plane that is not running.
    Purge {
        /// Its run directory.
        #[arg(long, default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
}

/// The pool, or none.
type HostToPod = Option<HostToPodPool>;

fn parse_host_to_pod(text: &str) -> Result<HostToPod, String> {
    if text == "none" {
        return Ok(None);
    }
    let network = text.parse().map_err(|_| "a network such as 169.254.128.0/17 is expected, or none".to_owned())?;
    HostToPodPool::new(network).map(Some).ok_or_else(|| "at least a /28 is expected".to_owned())
}

fn parse_access(text: &str) -> Result<Access, String> {
    match text {
        "anyone" => Ok(Access::Anyone),
        "root" => Ok(Access::Root),
        "off" => Ok(Access::Off),
        _ => Err("anyone, root or off is expected".to_owned()),
    }
}

/// Who may use `/mock/` over TCP.
fn access(options: &Options) -> Result<Access, Box<dyn Error>> {
    Ok(match (&options.mock_token_file, &options.mock_tcp) {
        (Some(file), _) => Access::Token(read_token(file)?),
        (None, Some(access)) => access.clone(),
        (None, None) if options.dataplane => Access::Root,
        (None, None) => Access::Anyone,
    })
}

fn parse_activation(text: &str) -> Result<Activation, String> {
    match text {
        "at-once" => Ok(Activation::AtOnce),
        "never" => Ok(Activation::Explicit),
        number => match number.parse() {
            Ok(milliseconds) => Ok(Activation::After(Duration::from_millis(milliseconds))),
            Err(_) => Err("at-once, never or a number of milliseconds is expected".to_owned()),
        },
    }
}

/// A mistyped `admin` must not make an administrator.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    password: String,
    #[serde(default = "yes")]
    admin: bool,
}

const fn yes() -> bool {
    true
}

fn settings(options: &Options) -> Result<MockSettings, String> {
    let mut settings = MockSettings {
        dialect: options.dialect,
        host_name: options.host_name.clone(),
        host_address: options.host_address,
        strict_tokens: options.strict_tokens,
        activation: options.activation,
        base: options.base_uri.clone(),
        duplicate_type: options.duplicate_type,
        host_to_pod: options.node_side_cidr,
        services: options.service_cidr,
        // Tokens and ids of a served controller must not be predictable.
        seed: Uuid::new_v4(),
        ..MockSettings::default()
    };
    if let Some(host) = options.host_id {
        settings.host = host;
    }
    if let Some(path) = &options.users {
        let text = read::given(path, CONFIG).map_err(|error| format!("users file {}: {error}", path.display()))?;
        // The parser's message may contain a password.
        let users: BTreeMap<String, UserEntry> = serde_json::from_slice(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("users file {}: line {line}, column {column}: {USERS} is expected", path.display())
        })?;
        let user = |entry: UserEntry| User { password: Secret::new(entry.password), admin: entry.admin };
        settings.users = users.into_iter().map(|(name, entry)| (name, user(entry))).collect();
    }
    Ok(settings)
}

/// The controller, with the objects of its file where it has one.
fn controller(options: &Options) -> Result<(MockController, Option<StateFile>), Box<dyn Error>> {
    let settings = settings(options)?;
    let Some(path) = &options.state else { return Ok((MockController::new(settings), None)) };
    let controller = match StateFile::load(path, settings.dialect)? {
        Some(tables) => MockController::with_tables(settings, tables),
        None => MockController::new(settings),
    };
    let file = StateFile::create(path, options.dialect, controller.tables())?;
    Ok((controller, Some(file)))
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // Before anything that needs an orderly end.
    let mut signals = Signals::receive()?;
    // The port first: a second server on this address must not touch the file or the kernel objects of the first one.
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr()?;
    // Another controller with the same file would overwrite changes that this one has answered.
    let _exclusive = options.state.as_deref().map(StateFile::lock).transpose()?;
    let (controller, file) = controller(&options)?;
    let mut server = MockServer::new(controller).access(access(&options)?);
    let socket = options.mock_socket.as_deref().map(MockSocket::bind).transpose()?;
    if let Some(file) = file {
        server.persist_to(file);
    }
    let plane = if options.dataplane { Some(server.realise(&options.run_dir).await?) } else { None };
    print_line(&format!("mock-controller: listening on http://{address}{BASE_PATH} (dialect {})", options.dialect));
    let mut lost = false;
    let end = async {
        let ended = async {
            match &plane {
                Some(plane) => plane.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.end() => {}
            () = ended => lost = true,
        }
    };
    let aside = async {
        match &socket {
            Some(socket) => server.serve_mock(socket, std::future::pending()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = server.serve(listener, end) => {}
        () = aside => {}
    }
    // Also when the data plane has ended.
    let closed = server.close();
    if lost {
        // The service manager starts this program again, and it continues with the state that it finds.
        return Err("the data plane has ended unexpectedly; its messages are above. Start this program again".into());
    }
    plane.map_or(Ok(()), |plane| plane.stop(options.purge_on_exit))?;
    // An error means that answered changes may not be on the disk.
    closed
}

/// Prints a line to standard error, if it can be written.
fn print_line(line: &str) {
    print::say(&format!("{line}\n"));
}

/// Prints a result and returns `code`, or 1 when it could not be printed.
fn print_result(text: &str, code: ExitCode) -> ExitCode {
    if print::or_say(text, "") { code } else { ExitCode::FAILURE }
}

/// The exit code when a part of the topology is closed because it cannot be expressed.
const CLOSED: u8 = 3;

/// Prints what this machine lacks.
fn probe() -> ExitCode {
    let missing = atoll_dataplane::probe();
    let mut text = String::new();
    for it in &missing {
        text.extend([if it.essential { "missing: " } else { "degraded: " }, &it.to_string(), "\n"]);
    }
    if text.is_empty() {
        text.push_str("nothing is missing\n");
    }
    print_result(&text, if missing.iter().any(|it| it.essential) { CLOSED.into() } else { ExitCode::SUCCESS })
}

fn start(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    match &options.command {
        Some(Command::Dataplane { verb: DataplaneVerb::Purge { run_dir } }) => {
            plane::purge(run_dir)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Dataplane { verb: DataplaneVerb::Probe }) => return Ok(probe()),
        Some(Command::Dataplane { verb: DataplaneVerb::Check { topology, host_id, json } }) => {
            let checked = check(topology, *host_id)?;
            let text = if *json { serde_json::to_string_pretty(&checked)? + "\n" } else { checked.to_string() };
            return Ok(print_result(&text, if checked.closed == 0 { ExitCode::SUCCESS } else { CLOSED.into() }));
        }
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(options))?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    make::umask();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return print::help(&help.render().to_string(), &help.render().ansi().to_string()),
    };
    let started = log::Lines::to(std::io::stderr()).map_err(Into::into).and_then(|lines| {
        tracing_subscriber::fmt().with_writer(lines).with_max_level(tracing::Level::WARN).init();
        start(options)
    });
    match started {
        Ok(code) => code,
        Err(error) => {
            print_line(&format!("mock-controller: {error}"));
            for cause in atoll_model::error::causes(error.as_ref()) {
                print_line(&format!("  because: {cause}"));
            }
            let lacking = || ExhaustedResource::lacking(error.as_ref()).map(ExhaustedResource::advice);
            if let Some(advice) = trouble::advice_in(error.as_ref()).or_else(lacking) {
                print_line(&format!("  try: {advice}"));
            }
            ExitCode::FAILURE
        }
    }
}
