//! What the examples ask of a deployment of `deploy/up` and of its processes.

use std::{fmt::Display, fs, path::Path};

use anyhow::Context as _;

/// What a file of the data folder holds.
///
/// # Errors
/// When there is no such file.
pub fn kept(data: &Path, file: &str) -> anyhow::Result<String> {
    let file = data.join(file);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// CPU seconds of a process's first thread; `self` is this one.
///
/// # Errors
/// When it does not run.
pub fn used(process: impl Display) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    Ok(stat.split(' ').next().context("a figure")?.parse::<f64>()? / 1e9)
}
