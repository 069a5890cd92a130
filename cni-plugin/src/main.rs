//! The process: reads the request, runs one verb, prints exactly one JSON document or nothing.
//!
//! The only place that prints and ends. VERSION and malformed requests are answered before a runtime, a client or a
//! logger exists. A defect that panics is told as an error object, too.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::del::DelCall;
use atoll_cni_plugin::error::Error;
use atoll_cni_plugin::wire::linux::Linux;
use atoll_cni_plugin::{log, node, real, status};
use atoll_model::attachment::Attachment;
use atoll_model::cni::fail::Failure;
use atoll_model::cni::request::{Command, Environment, Request, RequestError};
use atoll_model::cni::version::Version;
use atoll_model::config::Config;
use atoll_model::ids::NodeName;

/// More than any runtime sends, less than would hurt.
const LONGEST_INPUT: u64 = 16 << 20;

/// The document for standard output, empty for none; an error's document comes as the error.
type Answer = Result<String, Failure>;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(message, place, "a defect");
        print(&Failure::of_panic(message, &place).to_json());
        #[expect(clippy::disallowed_methods, reason = "aborting would leave a core and no exit code")]
        std::process::exit(1);
    }));
    let (text, is_success) = match answer() {
        Ok(text) => (text, true),
        Err(failure) => (failure.to_json(), false),
    };
    if print(&text) && is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a document. False: nobody reads it.
fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let line = if text.is_empty() { String::new() } else { format!("{text}\n") };
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

fn answer() -> Answer {
    let refused = |error: RequestError| Failure::of(&error, Version::NEWEST);
    let Some(environment) = Environment::read(|name| std::env::var_os(name)).map_err(refused)? else {
        introduce();
        return Ok(String::new());
    };
    if environment.command == Command::Version {
        return Ok(Version::supported());
    }
    let mut input = Vec::new();
    if let Err(source) = io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut input) {
        return Err(Failure::of(&Error::File { what: "read standard input", source }, Version::NEWEST));
    }
    let request = Request::read(environment, &input).map_err(refused)?;
    let told = if request.environment.command == Command::Del { Failure::of_delete } else { Failure::of };
    serve(&request).map_err(|error| told(&error, request.version))
}

/// Somebody started us by hand.
fn introduce() {
    let versions = Version::ALL.map(Version::as_str).join(", ");
    let about = concat!("Atoll CNI plugin ", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(io::stderr(), "{about}\nCNI protocol versions supported: {versions}");
}

fn serve(request: &Request) -> Result<String, Error> {
    let config = request.config()?;
    let command = request.environment.command;
    log::begin(&config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::File { what: "start the runtime", source })?;
    let begun = std::time::Instant::now();
    let answer = match command {
        Command::Add => add(request, config, &runtime),
        Command::Del => del(request, config, &runtime),
        Command::Status => runtime.block_on(status::status(&config, &Linux::new())).map(|()| String::new()),
        Command::Check | Command::Gc | Command::Version => Err(RequestError::Unserved(command).into()),
    };
    let (command, milliseconds) = (command.as_str(), begun.elapsed().as_millis());
    let (container, network) = (&request.environment.container, &request.network);
    let container = container.as_ref().map(ToString::to_string).unwrap_or_default();
    match &answer {
        Ok(_) => tracing::info!(command, %network, container, milliseconds, "done"),
        Err(error) => {
            let error = error as &(dyn std::error::Error + 'static);
            tracing::error!(command, %network, container, milliseconds, error, "failed");
        }
    }
    answer
}

fn add(request: &Request, config: Config, runtime: &tokio::runtime::Runtime) -> Result<String, Error> {
    request.refuse_wishes()?;
    let environment = &request.environment;
    let node = node::identify(&config)?;
    let call = AddCall {
        attachment: attachment(request, node.name.clone())?,
        pod: request.pod()?,
        sandbox: environment.netns.clone().unwrap_or_default(),
        dns: request.dns(&config.dns)?,
        own_netns: environment.netns_override,
        node,
    };
    let world = real::world(config)?;
    Ok(runtime.block_on(world.add(&call))?.to_json(request.version))
}

fn del(request: &Request, config: Config, runtime: &tokio::runtime::Runtime) -> Result<String, Error> {
    let environment = &request.environment;
    let world = real::world(config)?;
    let call = DelCall {
        attachment: attachment(request, world.node.clone())?,
        sandbox: environment.netns.clone(),
        own_netns: environment.netns_override,
    };
    runtime.block_on(world.del(&call)).map(|()| String::new())
}

fn attachment(request: &Request, node: NodeName) -> Result<Attachment, Error> {
    let missing = || RequestError::Missing(vec!["CNI_CONTAINERID", "CNI_IFNAME"]);
    let environment = &request.environment;
    Ok(Attachment {
        node,
        network: request.network.clone(),
        container: environment.container.clone().ok_or_else(missing)?,
        interface: environment.interface.clone().ok_or_else(missing)?,
    })
}
