//! A container image from busybox, as a directory and as an OCI layout in a tar file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use atoll_testkit::lab::netns::run;
use serde_json::{Value, json};

/// The name of the image.
pub(crate) const NAME: &str = "localhost/bb:latest";

/// A root file system with a shell in it, at `directory`.
pub(crate) fn root_filesystem(directory: &Path) -> Result<()> {
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "www"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::copy("/bin/busybox", directory.join("bin/busybox")).context("Debian package busybox-static")?;
    for applet in ["sh", "sleep", "ping", "ip", "cat", "readlink", "httpd", "wget"] {
        symlink("busybox", directory.join("bin").join(applet))?;
    }
    fs::write(directory.join("www/index.html"), "atoll\n")?;
    fs::write(directory.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    Ok(())
}

/// The image as a tar file that `ctr images import` takes: OCI image layout 1.0, one layer, nothing compressed.
pub(crate) fn archive(scratch: &Path) -> Result<PathBuf> {
    let (root, layout, tar) = (scratch.join("image-root"), scratch.join("image"), scratch.join("image.tar"));
    root_filesystem(&root)?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = scratch.join("layer.tar");
    pack(&root, &layer)?;
    let (layer, layer_size) = blob(&blobs, &layer)?;

    let config = json!({
        "architecture": architecture(), "os": "linux", "config": { "Entrypoint": ["/bin/sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    });
    let (config, config_size) = json_blob(&blobs, &config)?;
    let described = |kind: &str, digest: &str, size: u64| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": size });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config, config_size),
        "layers": [described("layer.v1.tar", &layer, layer_size)],
    });
    let (manifest, manifest_size) = json_blob(&blobs, &manifest)?;
    let mut entry = described("manifest.v1+json", &manifest, manifest_size);
    entry["annotations"] = json!({ "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest" });
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    pack(&layout, &tar)?;
    Ok(tar)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn pack(directory: &Path, tar: &Path) -> Result<()> {
    let (directory, tar) = (directory.display().to_string(), tar.display().to_string());
    run("tar", &["--create", "--owner=0", "--group=0", "--file", &tar, "--directory", &directory, "."]).map(drop)
}

fn json_blob(blobs: &Path, value: &Value) -> Result<(String, u64)> {
    let file = blobs.join("new");
    fs::write(&file, value.to_string())?;
    blob(blobs, &file)
}

/// Moves a file to its place among the blobs; returns its digest and size.
fn blob(blobs: &Path, file: &Path) -> Result<(String, u64)> {
    let sum = run("sha256sum", &[&file.display().to_string()])?;
    let digest = sum.split(' ').next().context("a digest")?.to_owned();
    let size = fs::metadata(file)?.len();
    fs::rename(file, blobs.join(&digest))?;
    Ok((digest, size))
}
