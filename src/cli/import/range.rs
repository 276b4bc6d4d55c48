//! Ansible's ranges: `web[01:10]`, `db-[a:f]`, `x[0:8:2]`.

use super::MAX_HOSTS;

/// All names that a pattern stands for.
///
/// # Errors
/// A sentence that says why it stands for none, or for too many.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, within, after)) = next(rest) {
        let steps = steps(within).map_err(|why| format!("[{within}]: {why}"))?;
        if names.len().saturating_mul(steps.len()) > MAX_HOSTS {
            return Err(format!("it stands for more than {MAX_HOSTS} hosts"));
        }
        names = names
            .iter()
            .flat_map(|name| steps.iter().map(move |step| format!("{name}{before}{step}")))
            .collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

/// What stands before, in and after the first range. An IPv6 address in brackets is none.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('[')?;
    let (within, after) = rest.split_once(']')?;
    let colons = within.matches(':').count();
    (1..=2).contains(&colons).then_some((before, within, after))
}

fn steps(within: &str) -> Result<Vec<String>, String> {
    let mut parts = within.split(':');
    let (from, to) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let step = match parts.next().map(str::parse::<usize>) {
        None => 1,
        Some(Ok(step)) if step > 0 => step,
        Some(_) => return Err("a step is a number above 0".into()),
    };
    let is_number =
        |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(from) && is_number(to) {
        let range = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
        let (first, last) = (range(from)?, range(to)?);
        if first > last || (last - first) as usize / step >= MAX_HOSTS {
            return Err(format!("write two numbers, the smaller one first, and at most {MAX_HOSTS} apart"));
        }
        // `01` asks for all to be as wide.
        let width = if from.starts_with('0') { from.len() } else { 0 };
        return Ok((first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect());
    }
    match (from.as_bytes(), to.as_bytes()) {
        ([first], [last])
            if first <= last
                && (first.is_ascii_lowercase() && last.is_ascii_lowercase()
                    || first.is_ascii_uppercase() && last.is_ascii_uppercase()) =>
        {
            Ok((*first..=*last).step_by(step).map(|letter| char::from(letter).to_string()).collect())
        }
        _ => Err("write two numbers or two letters, the smaller one first".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stands_for_all_between_and_keeps_its_width() {
        let expand = |pattern: &str| expand(pattern).map(|names| names.join(" "));
        assert_eq!(expand("box"), Ok("box".into()));
        assert_eq!(expand("web[08:11].x"), Ok("web08.x web09.x web10.x web11.x".into()));
        assert_eq!(expand("a[1:5:2]b[x:y]"), Ok("a1bx a1by a3bx a3by a5bx a5by".into()));
        assert_eq!(expand("[2001:db8::1]:22"), Ok("[2001:db8::1]:22".into()));
        for wrong in
            ["a[2:1]", "a[1:b]", "a[a:Z]", "a[1:2:0]", "a[1:]", "a[0:999999999]", "a[0:99][0:99][0:99]"]
        {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
