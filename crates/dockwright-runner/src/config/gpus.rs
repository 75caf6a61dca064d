//! `gpus` and `service_gpus`, in the syntax of `docker run --gpus`: `all`, a number, or fields such as `"device=0,1",driver=nvidia`.

use std::collections::BTreeMap;

/// Devices that a driver of the engine gives to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuRequest {
    pub driver: String,
    /// -1 for all; 0 where `devices` names them.
    pub count: i64,
    pub devices: Vec<String>,
    pub capabilities: Vec<String>,
    pub options: BTreeMap<String, String>,
}

impl GpuRequest {
    /// Reads the text; what is wrong with it is the error.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "GPUs are `all`, a number, or fields as in `\"device=0,1\",driver=nvidia`";
        let mut request = Self { capabilities: vec!["gpu".to_owned()], ..Self::default() };
        let mut is_counted = false;
        for field in fields(text) {
            let (key, value) = field.split_once('=').unwrap_or(("count", &field));
            let list = || value.split(',').map(str::to_owned);
            match key {
                "count" => {
                    request.count = if value == "all" { -1 } else { value.parse().map_err(|_| EXPECTED)? };
                    is_counted = true;
                }
                "device" => request.devices = list().collect(),
                "driver" => request.driver = value.to_owned(),
                "capabilities" => request.capabilities = list().chain(["gpu".to_owned()]).collect(),
                "options" => {
                    let option = |pair: String| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
                    request.options = list().map(option).collect::<Option<_>>().ok_or(EXPECTED)?;
                }
                _ => return Err(EXPECTED),
            }
        }
        if is_counted && !request.devices.is_empty() {
            return Err("a number of GPUs and a list of them cannot both be given");
        }
        if !is_counted && request.devices.is_empty() {
            request.count = 1;
        }
        Ok(request)
    }
}

/// Splits at commas outside of double quotes, which are left out.
fn fields(text: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    let mut is_quoted = false;
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => list.push(String::new()),
            _ => list.last_mut().expect("it has one").push(character),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_docker_client_reads_them() {
        let gpu = vec!["gpu".to_owned()];
        let read = |text: &str| GpuRequest::parse(text).expect("it can be read");
        assert_eq!(read("all"), GpuRequest { count: -1, capabilities: gpu.clone(), ..GpuRequest::default() });
        assert_eq!(read("2"), GpuRequest { count: 2, capabilities: gpu.clone(), ..GpuRequest::default() });
        assert_eq!(read("driver=nvidia").count, 1);
        let devices = read(r#""device=0,1",driver=nvidia,"capabilities=compute,utility","options=a=1,b=2""#);
        assert_eq!((devices.count, devices.devices.as_slice()), (0, &["0".to_owned(), "1".to_owned()][..]));
        assert_eq!(devices.capabilities, ["compute", "utility", "gpu"]);
        assert_eq!(devices.options["b"], "2");
        for wrong in ["some", "count=x", "colour=red", "device=0,count=1", "options=a", "\"device=0\",count=all"] {
            assert!(GpuRequest::parse(wrong).is_err(), "{wrong}");
        }
    }
}
