//! The plugin's binary: finds it, and runs it as a runtime does.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::runtime;
use crate::runtime::PLUGIN;
use crate::runtime::root::Root;
use crate::settings::distinct;

/// Where runtimes look for plugins if nothing else is configured, most common first.
pub(crate) const DIRECTORIES: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The longest that the plugin may take to print its version.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// The directories from an option, or else from `CNI_PATH`; empty if neither is set.
pub(crate) fn given_directories(option: &[PathBuf]) -> Vec<PathBuf> {
    if !option.is_empty() {
        return option.to_vec();
    }
    let path = std::env::var_os("CNI_PATH").filter(|path| !path.is_empty());
    path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// The directories to search: those of the command line, else those that this machine's runtimes search.
pub(crate) fn directories(option: &[PathBuf]) -> Vec<PathBuf> {
    let given = given_directories(option);
    if !given.is_empty() {
        return given;
    }
    let mut directories: Vec<_> = runtime::configured(&Root::own()).into_iter().flat_map(|places| places.bin).collect();
    directories.extend(DIRECTORIES.map(PathBuf::from));
    distinct(directories)
}

/// The plugin in the first directory that has it.
pub(crate) fn find(directories: &[PathBuf]) -> Option<PathBuf> {
    find_named(directories, PLUGIN)
}

/// A plugin of this type in the first directory that has it.
pub(crate) fn find_named(directories: &[PathBuf], kind: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(kind)).find(|path| path.is_file())
}

/// The version that the plugin prints when it is started by hand; the error has the reason if it is not the plugin.
pub(crate) async fn version(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("it is not executable (`chmod 0755 {}`)", path.display()));
    }
    let mut command = tokio::process::Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let out = match timeout(INTRODUCTION, command.output()).await {
        Ok(Ok(out)) => out,
        Ok(Err(error)) => return Err(format!("it cannot be started: {error}")),
        Err(_) => return Err(format!("it did not print its version within {} s", INTRODUCTION.as_secs())),
    };
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let version = text.lines().next().and_then(|line| line.strip_prefix("Atoll CNI plugin "));
    version.map(str::to_owned).ok_or_else(|| "it does not identify itself as Atoll's plugin".to_owned())
}

/// Runs `CNI_COMMAND=DEL` for an attachment: the only way in which an attachment is removed. `config` is what a runtime
/// writes to standard input. The error is the message that the plugin printed.
pub(crate) async fn delete(
    program: &Path,
    config: &Value,
    attachment: &Attachment,
    limit: Duration,
) -> Result<(), String> {
    let mut command = tokio::process::Command::new(program);
    command.env_clear().envs([
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", attachment.container.as_str()),
        ("CNI_IFNAME", attachment.interface.as_str()),
        ("CNI_PATH", &program.parent().unwrap_or(Path::new("/")).display().to_string()),
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ran = async {
        let mut child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that has already ended has its error on standard output.
            let _ = stdin.write_all(config.to_string().as_bytes()).await;
        }
        child.wait_with_output().await.map_err(|error| error.to_string())
    };
    let out =
        timeout(limit, ran).await.map_err(|_| format!("the plugin did not end within {} s", limit.as_secs()))??;
    if out.status.success() {
        return Ok(());
    }
    let answer = serde_json::from_slice::<Value>(&out.stdout).unwrap_or_default();
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (text("msg"), text("details")) {
        (msg, _) if msg.is_empty() => Err(format!("the plugin ended with {} and printed no error", out.status)),
        (msg, details) if details.is_empty() => Err(msg),
        (msg, details) => Err(format!("{msg}: {details}")),
    }
}
