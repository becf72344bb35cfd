//! Reads the data folder and the CPU usage of a deployment of `deploy/up`, for the examples.

use std::{fmt::Display, fs, path::Path};

use anyhow::Context as _;

/// Reads a file of the data folder, trimmed.
///
/// # Errors
/// When the file can't be read.
pub fn read_data_file(data: &Path, file: &str) -> anyhow::Result<String> {
    let file = data.join(file);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// CPU seconds of a process's main thread. `process` is a process id, or `self`.
///
/// # Errors
/// When the process does not run.
pub fn cpu_seconds(process: impl Display) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    Ok(stat.split(' ').next().context("schedstat is empty")?.parse::<f64>()? / 1e9)
}
