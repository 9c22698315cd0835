% Score predictions on MPI-INF-3DHP's test set: MPJPE, PCK and AUC by sequence and by activity (GNU Octave or MATLAB).
%
% Set what follows, or override it in the environment:
%   SCORE_3DHP_PREDICTIONS=checkpoint/mpi_1 SCORE_3DHP_TEST_SET=data/mpi octave-cli mpii_test_predictions_ori_py.m
% 3dhp_test/README.md says what comes out. python -m common.score_3dhp gives the same numbers.

here = fileparts(mfilename('fullpath'));
known = {'P_Agg', 'P_Best', 'J_Best', 'J_Agg', 'J_Agg_est', 'R_Agg'};
kinds = {'deployable', 'oracle', 'oracle', 'needs the true root', 'deployable', 'deployable'};
settings = known;                                   % which to score
predictions = here;                                 % folder of inference_data_<setting>.mat
test_set = fileparts(here);                         % folder of TS1/annot_data.mat, ..., TS6/annot_data.mat
annotation = '';                                    % 'annot3' or 'univ_annot3', not comparable with each other; empty:
                                                    % what results_*.json in predictions say, else annot3
out = '';                                           % folder to write to; empty: that of the predictions

if ~isempty(getenv('SCORE_3DHP_SETTINGS')), settings = strsplit(getenv('SCORE_3DHP_SETTINGS'), ','); end
if ~isempty(getenv('SCORE_3DHP_PREDICTIONS')), predictions = getenv('SCORE_3DHP_PREDICTIONS'); end
if ~isempty(getenv('SCORE_3DHP_TEST_SET')), test_set = getenv('SCORE_3DHP_TEST_SET'); end
if ~isempty(getenv('SCORE_3DHP_ANNOTATION')), annotation = getenv('SCORE_3DHP_ANNOTATION'); end
if ~isempty(getenv('SCORE_3DHP_OUT')), out = getenv('SCORE_3DHP_OUT'); end
if isempty(out), out = predictions; end

addpath(here);
settings = strtrim(settings);
unknown = settings(~ismember(settings, known));
if ~isempty(unknown)
    error('no setting is called ''%s''; there are %s', strjoin(unknown, ','), strjoin(known, ','));
end
if isempty(annotation), annotation = score_3dhp_annotation(predictions); end
if ~any(strcmp(annotation, {'annot3', 'univ_annot3'}))
    error('annotation is ''%s'', expected annot3 or univ_annot3', annotation);
end

fprintf('against %s\n', annotation);
truth = score_3dhp_truth(test_set, annotation);
names = {};
kind_of = {};
errors = {};
for s = 1:numel(settings)
    file = fullfile(predictions, ['inference_data_', settings{s}, '.mat']);
    if exist(file, 'file') ~= 2
        fprintf('%s not found: left out\n', file);
        continue
    end
    of_setting = score_3dhp_errors(file, truth);
    for k = 1:size(of_setting, 2)
        names{end + 1} = sprintf('ori_%s_t%d', settings{s}, k);
        kind_of{end + 1} = kinds{strcmp(known, settings{s})};
        errors{end + 1} = of_setting(:, k);
    end
end
if isempty(names)
    error('%s has none of inference_data_{%s}.mat', predictions, strjoin(settings, ','));
end
score_3dhp_refuse_others(out, names);
if exist(out, 'dir') ~= 7 && ~mkdir(out)
    error('%s cannot be made', out);
end
notes = {};
for n = 1:numel(names)
    notes = [notes, score_3dhp_write(out, names{n}, kind_of{n}, errors{n}, truth, annotation)];
end
if ~isempty(notes)
    [~, first] = unique(notes, 'first');  % most are the same for every setting and step
    fprintf('%s\n', notes{sort(first)});
end
fprintf('against %s; written to %s\n', annotation, out);
