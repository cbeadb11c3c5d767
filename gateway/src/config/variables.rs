//! Environment variables in values: `${VAR}` and `${VAR:-default}`.

/// Looks up an environment variable. Tests pass a map.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every reference to a variable; `$${` stands for a literal `${`. As in a shell, the
/// default also replaces an empty variable. What is inserted is not expanded again.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.extend([before, "${"]);
            rest = after;
            continue;
        }
        let Some((reference, after)) = after.split_once('}') else {
            return Err("`${` has no closing `}`; write `$${` for a literal `${`".to_owned());
        };
        expanded.push_str(before);
        expanded.push_str(&resolve(reference, env)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of `VAR` or `VAR:-default`.
fn resolve(reference: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!(
            "`{name}` is not the name of a variable; write ${{VAR}} or ${{VAR:-default}}"
        ));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable {name} is not set; set it or write ${{{name}:-default}}"
        )),
    }
}
