from roofprobe.peaks.catalogue import load


def test_one_device_of_a_module_is_its_even_share() -> None:
    module = load()["amd_mi250x"]
    device = module.per_device()
    assert module.devices_per_module == 2
    assert device.unit_count == 110
    assert device.mem_gb == 64
    assert device.mem_bw_gbps == 1640
    assert device.mem_bus_bits == 4096
    assert device.dense["bf16_tensor"] == 191.5
    assert device.tdp_w is None
    assert device.per_device() is device


def test_a_single_device_is_its_own_share() -> None:
    row = load()["nvidia_t4"]
    assert row.per_device() is row


def test_headline_of_each_precision() -> None:
    h100 = load()["nvidia_h100_sxm5_80gb"]
    assert h100.headline_peak("fp64") == 67
    assert h100.headline_peak("bf16") == 989.4
    assert h100.headline_peak("fp8") == 1978.9
    assert h100.headline_peak("mxfp8") is None
    assert h100.headline_peak("int4") is None
    assert load()["nvidia_b200"].headline_peak("nvfp4") == 9000
    assert load()["nvidia_b200"].headline_peak("fp64") == 37
    assert load()["amd_mi300x"].headline_key("fp32") == "fp32_matrix"
    assert load()["nvidia_a800_sxm4_80gb"].headline_peak("fp64") is None
    assert load()["huawei_ascend_910c_a_k"].headline_peak("fp16") == 707.8


def test_the_clock_of_a_peak_is_the_one_its_datasheet_quotes() -> None:
    h100 = load()["nvidia_h100_sxm5_80gb"]
    assert h100.clock_mhz_for("bf16_tensor") == 1830
    assert h100.clock_mhz_for("fp32") == 1980
    assert h100.clock_mhz_for("fp64_tensor") == 1980
    b300 = load()["nvidia_b300"]
    assert b300.clock_mhz_for("int8") == 2032
    assert b300.clock_mhz_for("fp8_tensor") == 1835
    assert load()["nvidia_gb300"].clock_mhz_for("fp32") is None
