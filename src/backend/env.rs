//! Reads the storage URL from the environment.

use super::BackendError;

/// The variables, in the order of the search.
const NAMES: [&str; 2] = ["CALLBOARD_URL", "DATABASE_URL"];

/// The URL in `CALLBOARD_URL`, otherwise the URL in `DATABASE_URL`.
///
/// # Errors
/// [`BackendError::BadUrl`] if neither is set. If Supabase's variables are set instead, the error tells the next step,
/// because they point to its REST interface and not to the database.
pub(crate) fn url_from_env(look: impl Fn(&str) -> Option<String>) -> Result<String, BackendError> {
    let set = |name: &str| look(name).filter(|value| !value.is_empty());
    if let Some(url) = NAMES.iter().find_map(|name| set(name)) {
        return Ok(url);
    }
    let reason = if set("SUPABASE_URL").is_some() {
        "SUPABASE_URL and its key are for the REST interface; put the connection string of the database, \
        postgres://..., into DATABASE_URL: Supabase's dashboard shows it under Connect"
    } else {
        "put a URL such as sqlite:tasks.db, mysql://... or postgres://... into DATABASE_URL"
    };
    Err(BackendError::BadUrl { url: format!("${}", NAMES.join(" or $")), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[(&str, &str)]) -> Result<String, String> {
        let look = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        url_from_env(look).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        assert_eq!(found(&[("DATABASE_URL", "mysql://h/d"), ("CALLBOARD_URL", "")]).unwrap(), "mysql://h/d");
        assert_eq!(found(&[("DATABASE_URL", "mysql://h/d"), ("CALLBOARD_URL", "memory:")]).unwrap(), "memory:");
    }

    #[test]
    fn what_is_missing_is_named() {
        let supabase = found(&[("SUPABASE_URL", "https://x.supabase.co"), ("SUPABASE_KEY", "secret")]).unwrap_err();
        assert!(supabase.contains("postgres://") && supabase.contains("Connect"), "{supabase}");
        assert!(!supabase.contains("secret"));
        assert!(found(&[]).unwrap_err().contains("DATABASE_URL"));
    }
}
