treadle_test(reference.hooks
  SOURCES hooks_test.cpp hooks_loop_test.cpp hooks_metrics_test.cpp hooks_saving_test.cpp events_model.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_hooks nlohmann_json::nlohmann_json)
