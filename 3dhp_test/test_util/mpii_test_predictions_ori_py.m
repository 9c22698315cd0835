% Score predictions on MPI-INF-3DHP's test set: MPJPE, PCK and AUC by sequence and by activity (GNU Octave or MATLAB).
%
% Set what follows, or override it in the environment:
%   SCORE_3DHP_PREDICTIONS=checkpoint/mpi_1 SCORE_3DHP_TEST_SET=data/mpi octave mpii_test_predictions_ori_py.m
% 3dhp_test/README.md says what comes out. python -m common.score_3dhp gives the same numbers.

here = fileparts(mfilename('fullpath'));
settings = {'P_Agg', 'P_Best', 'J_Best', 'J_Agg'};  % P_Best and J_Best look at the truth: oracles
predictions = here;                                 % folder of inference_data_<setting>.mat
test_set = fileparts(here);                         % folder of TS1/annot_data.mat, ..., TS6/annot_data.mat
annotation = 'annot3';                              % or 'univ_annot3': not comparable with each other
out = '';                                           % folder to write to; empty: that of the predictions

if ~isempty(getenv('SCORE_3DHP_SETTINGS')), settings = strsplit(getenv('SCORE_3DHP_SETTINGS'), ','); end
if ~isempty(getenv('SCORE_3DHP_PREDICTIONS')), predictions = getenv('SCORE_3DHP_PREDICTIONS'); end
if ~isempty(getenv('SCORE_3DHP_TEST_SET')), test_set = getenv('SCORE_3DHP_TEST_SET'); end
if ~isempty(getenv('SCORE_3DHP_ANNOTATION')), annotation = getenv('SCORE_3DHP_ANNOTATION'); end
if ~isempty(getenv('SCORE_3DHP_OUT')), out = getenv('SCORE_3DHP_OUT'); end
if isempty(out), out = predictions; end

addpath(here);
if ~any(strcmp(annotation, {'annot3', 'univ_annot3'}))
    error('annotation is ''%s'', expected annot3 or univ_annot3', annotation);
end
if exist(out, 'dir') ~= 7 && ~mkdir(out)
    error('%s cannot be made', out);
end

truth = score_3dhp_truth(test_set, annotation);
num_scored = 0;
for s = 1:numel(settings)
    file = fullfile(predictions, ['inference_data_', settings{s}, '.mat']);
    if exist(file, 'file') ~= 2
        fprintf('%s not found: left out\n', file);
        continue
    end
    errors = score_3dhp_errors(file, truth);
    for k = 1:size(errors, 2)
        score_3dhp_write(out, sprintf('ori_%s_t%d', settings{s}, k), errors(:, k), truth, annotation, k == 1);
    end
    num_scored = num_scored + 1;
end
if num_scored == 0
    error('%s has none of inference_data_{%s}.mat', predictions, strjoin(settings, ','));
end
fprintf('against %s; written to %s\n', annotation, out);
