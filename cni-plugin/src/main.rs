//! The process: reads the request, runs one verb, prints exactly one JSON document or nothing.
//!
//! The only place that prints and ends. Lost output is a failure: the exit code reports it, the attachment stays as an ADD
//! leaves it, and the runtime, for which the ADD failed, calls DEL. VERSION and malformed requests are answered before a
//! runtime, a client or a logger exists. A panic prints an error object, too.

use std::io::{self, IsTerminal, Read};
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::time::Duration;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::call_trace::CallTrace;
use atoll_cni_plugin::check::CheckCall;
use atoll_cni_plugin::del::DelCall;
use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::gc::GcCall;
use atoll_cni_plugin::kernel::linux::Linux;
use atoll_cni_plugin::log::Context;
use atoll_cni_plugin::production::Servers;
use atoll_cni_plugin::{log, panic_hook, production, status};
use atoll_model::attachment::Attachment;
use atoll_model::cni::fail::CniFailure;
use atoll_model::cni::request::{CniCommand, Environment, Request, RequestError};
use atoll_model::cni::version::Version;
use atoll_model::config::Config;
use atoll_model::error::{Classify, class_of};
use atoll_model::ids::NodeName;
use atoll_node::files::{make, print};
use atoll_tenant::machine;

/// See `Cargo.toml` and `docs/design/speed.md`.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// More than any runtime sends, less than would hurt.
const LONGEST_INPUT: u64 = 16 << 20;

/// How long the version of a caller with wrong variables is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// More address space than any call was seen to take.
const MEMORY: usize = 16 << 20;

/// The document for standard output, empty for none; an error's document comes as the error.
type Answer = Result<String, CniFailure>;

fn main() -> ExitCode {
    make::umask();
    panic_hook::install();
    let (text, is_success) = match answer() {
        Ok(text) => (text, true),
        Err(failure) => (failure.to_json(), false),
    };
    match panic_hook::print(&text) {
        Ok(()) if is_success => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "the answer could not be written to standard output");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Answer {
    let is_delete = std::env::var_os("CNI_COMMAND").is_some_and(|command| command == CniCommand::Del.as_str());
    let failure = |error: &dyn Classify, version| {
        if is_delete { CniFailure::of_delete(error, version) } else { CniFailure::of(error, version) }
    };
    let environment = Environment::read(|name| std::env::var_os(name));
    let Some(environment) = environment.map_err(|error| failure(&error, version_of_caller()))? else {
        introduce();
        return Ok(String::new());
    };
    if environment.command == CniCommand::Version {
        return Ok(Version::supported());
    }
    let mut input = Vec::new();
    let read = io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut input);
    let version = Request::version_of(&input);
    panic_hook::set_version(version);
    read.map_err(|source| failure(&CallError::File { what: "read standard input", source }, version))?;
    ask_for_memory().map_err(|error| failure(&error, version))?;
    let request = Request::read(environment, &input).map_err(|error| failure(&error, version))?;
    serve(&request).map_err(|error| failure(&error, request.version))
}

/// The version of a caller whose variables are wrong, from its standard input. An invocation by hand may have none, so the wait
/// for it is short.
fn version_of_caller() -> Version {
    if io::stdin().is_terminal() {
        return Version::NEWEST;
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let read = move || {
        let mut input = Vec::new();
        let _ = io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut input);
        let _ = sender.send(Request::version_of(&input));
    };
    let thread = std::thread::Builder::new().spawn(read);
    thread.ok().and_then(|_| receiver.recv_timeout(PATIENCE).ok()).unwrap_or(Version::NEWEST)
}

/// Asks for what a call needs at most, and gives it back. An allocation that fails later ends the process without a
/// word; here the error can be reported.
fn ask_for_memory() -> Result<(), CallError> {
    let mut memory: Vec<u8> = Vec::new();
    let had = memory.try_reserve_exact(MEMORY);
    std::hint::black_box(&memory);
    had.map_err(|_| CallError::File { what: "reserve memory for the call", source: io::ErrorKind::OutOfMemory.into() })
}

/// Invoked without `CNI_COMMAND`: prints the version and the supported CNI versions.
fn introduce() {
    let versions = Version::ALL.map(Version::as_str).join(", ");
    let about = concat!("Atoll CNI plugin ", env!("CARGO_PKG_VERSION"));
    print::say(&format!("{about}\nCNI protocol versions supported: {versions}\n"));
}

fn serve(request: &Request) -> Result<String, CallError> {
    let config = request.config()?;
    let trace = CallTrace::new();
    log::begin(&config.log, context(request), &trace);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // The answer does not wait until all is taken apart: the kernel does that when the process ends.
    let runtime = ManuallyDrop::new(runtime.map_err(|source| CallError::File { what: "start the runtime", source })?);
    let begun = std::time::Instant::now();
    let answer = match request.environment.command {
        CniCommand::Add => add(request, config, trace, &runtime),
        CniCommand::Del => del(request, config, trace, &runtime).map(|()| String::new()),
        CniCommand::Check => check(request, config, trace, &runtime).map(|()| String::new()),
        CniCommand::Gc => gc(request, config, trace, &runtime).map(|()| String::new()),
        CniCommand::Status => ready(config, trace, &runtime).map(|()| String::new()),
        // It is answered before the configuration is read.
        CniCommand::Version => Ok(Version::supported()),
    };
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    match &answer {
        Ok(_) => tracing::info!(milliseconds, "done"),
        Err(error) => {
            let code = class_of(error).cni_code();
            tracing::error!(milliseconds, code, error = error as &(dyn std::error::Error + 'static), "failed");
        }
    }
    answer
}

/// The fields of this call in every line of the log.
fn context(request: &Request) -> Context {
    let environment = &request.environment;
    let pod = request.pod().unwrap_or_default();
    Context::default()
        .with("command", Some(environment.command.as_str()))
        .with("network", Some(&request.network))
        .with("container", environment.container.as_ref())
        .with("interface", environment.interface.as_ref())
        .with("namespace", pod.namespace)
        .with("pod", pod.name)
        .with("trace", environment.trace.as_ref())
        .with("process", Some(std::process::id()))
}

type Runtime = tokio::runtime::Runtime;

fn add(request: &Request, config: Config, trace: CallTrace, runtime: &Runtime) -> Result<String, CallError> {
    request.refuse_previous()?;
    request.refuse_unserved()?;
    let environment = &request.environment;
    let (pod, requested, dns) = (request.pod()?, request.address_request(&config)?, request.dns(&config.dns)?);
    let plugin = plugin(config, trace, Servers::Needed)?;
    let node = runtime.block_on(machine::identify(&plugin.config, &plugin.engine))?;
    let call = AddCall {
        attachment: attachment(request, node.name.clone())?,
        pod,
        requested,
        sandbox: environment.netns.clone().unwrap_or_default(),
        dns,
        own_netns: environment.netns_override,
        node,
    };
    Ok(runtime.block_on(plugin.add(&call))?.to_json(request.version))
}

fn del(request: &Request, config: Config, trace: CallTrace, runtime: &Runtime) -> Result<(), CallError> {
    let environment = &request.environment;
    let plugin = plugin(config, trace, Servers::MayBeAway)?;
    let call = DelCall {
        attachment: attachment(request, plugin.node.clone())?,
        sandbox: environment.netns.clone(),
        own_netns: environment.netns_override,
    };
    runtime.block_on(plugin.del(&call))
}

fn check(request: &Request, config: Config, trace: CallTrace, runtime: &Runtime) -> Result<(), CallError> {
    let environment = &request.environment;
    let (pod, previous) = (request.pod()?, request.previous()?.ok_or(RequestError::NoPrevious)?);
    let plugin = plugin(config, trace, Servers::MayBeAway)?;
    let node = runtime.block_on(machine::identify(&plugin.config, &plugin.engine))?;
    let call = CheckCall {
        attachment: attachment(request, node.name)?,
        pod,
        sandbox: environment.netns.clone().unwrap_or_default(),
        previous,
        own_netns: environment.netns_override,
        host_id: node.host_id,
    };
    runtime.block_on(plugin.check(&call))
}

fn gc(request: &Request, config: Config, trace: CallTrace, runtime: &Runtime) -> Result<(), CallError> {
    let Some(valid) = request.valid_attachments()? else {
        tracing::info!("without a list nothing is collected");
        return Ok(());
    };
    let plugin = plugin(config, trace, Servers::MayBeAway)?;
    runtime.block_on(plugin.gc(&GcCall { network: request.network.clone(), valid }))
}

fn ready(config: Config, trace: CallTrace, runtime: &Runtime) -> Result<(), CallError> {
    // First what needs no client: a client cannot be made without its files, either.
    runtime.block_on(status::local(&config, &Linux::new()))?;
    let plugin = plugin(config, trace, Servers::Needed).map_err(|error| status::not_ready(&error))?;
    runtime.block_on(plugin.status())
}

/// The plugin in production. The kernel closes its connections when the process ends, as it does with the runtime.
fn plugin(
    config: Config,
    trace: CallTrace,
    servers: Servers,
) -> Result<ManuallyDrop<production::ProductionPlugin>, CallError> {
    production::plugin(config, trace, servers).map(ManuallyDrop::new)
}

fn attachment(request: &Request, node: NodeName) -> Result<Attachment, CallError> {
    let missing = || RequestError::Missing(vec!["CNI_CONTAINERID", "CNI_IFNAME"]);
    let environment = &request.environment;
    Ok(Attachment {
        node,
        network: request.network.clone(),
        container: environment.container.clone().ok_or_else(missing)?,
        interface: environment.interface.clone().ok_or_else(missing)?,
    })
}
